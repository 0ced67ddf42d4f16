"""What `sentinel bench` measures: the stream end to end, and the Fraud Detection Handbook's protocol."""
