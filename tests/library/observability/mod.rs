//! Spans, counters and durations, as a program sees them.
