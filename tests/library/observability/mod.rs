//! Spans, counters and durations, as a program sees them that installs a recorder and a subscriber.

mod recorded;
mod spans;
