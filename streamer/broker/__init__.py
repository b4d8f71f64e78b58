"""An Apache Kafka of our own: jars, Java, a broker that is started, found again, and stopped."""
