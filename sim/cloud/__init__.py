"""The cloud that devices believe in: registration over HTTP, MQTT, and what is known about each device."""
