"""Side by side with the other Python circuit breakers; never installed, never imported by users."""
