"""Recording outcomes: `layout` is the file's format, `recorder` writes it, `reader` reads it."""

from resilience.recording.reader import (
    NotARecordingError,
    Recorded,
    RegionRecording,
    read_recording,
)
from resilience.recording.recorder import Recording

__all__ = [
    "NotARecordingError",
    "Recorded",
    "Recording",
    "RegionRecording",
    "read_recording",
]
