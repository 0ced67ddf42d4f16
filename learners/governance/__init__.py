"""Acts on models and experiments by people and services, each one conditional append to the control stream."""
