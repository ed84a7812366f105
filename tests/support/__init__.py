"""What several tests share: databases, logs, workers that are killed."""
