"""Long runs on real servers, and the scenarios that they play."""
