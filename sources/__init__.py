"""Where streams come from: synthetic or datasets, with their labels, and their profile. Knows nothing of Kafka."""
