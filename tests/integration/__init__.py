"""Tests that meet real servers, browsers and other libraries."""
