//! Measurements: [`Latencies`] of operations, and [`Samples`] of the server's resources.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Problem;
use crate::server::Environment;

/// Latencies in microseconds by the name of the operation.
pub(crate) struct Latencies(Mutex<(Instant, BTreeMap<&'static str, Vec<u32>>)>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), BTreeMap::new())))
    }
}

impl Latencies {
    pub(crate) fn record(&self, operation: &'static str, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.1.entry(operation).or_default().push(took);
    }

    /// Deletes all measurements.
    pub(crate) fn clear(&self) {
        let mut latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *latencies = (Instant::now(), BTreeMap::new());
    }

    fn count(&self) -> usize {
        let latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.1.values().map(Vec::len).sum()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, operations) = (latencies.0, &latencies.1);
        let seconds = since.elapsed().as_secs_f64();
        let header = ["operation", "count", "per second", "50th ms", "90th ms", "99th ms", "most"];
        for (column, title) in header.iter().enumerate() {
            if column == 0 { write!(f, "{title:<16}")? } else { write!(f, " {title:>10}")? }
        }
        for (operation, taken) in operations {
            let mut taken = taken.clone();
            taken.sort_unstable();
            let at = |share: usize| f64::from(taken[(taken.len() - 1) * share / 100]) / 1000.0;
            let rate = taken.len() as f64 / seconds;
            write!(f, "\n{operation:<16} {:>10} {rate:>10.1}", taken.len())?;
            for share in [50, 90, 99, 100] {
                write!(f, " {:>10.1}", at(share))?;
            }
        }
        Ok(())
    }
}

/// The resources of the server at one time.
pub(crate) struct Sample {
    elapsed: Duration,
    operations: usize,
    resident_kib: u64,
    descriptors: usize,
    files: usize,
    /// Files of uploads and temporary files. A sweep removes abandoned ones after a day.
    temporary: usize,
}

impl Sample {
    pub(crate) const HEADER: &str =
        "seconds operations memory_KiB descriptors      files  temporary";

    /// Measures a process.
    ///
    /// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
    pub(crate) fn take(
        process: u32,
        environment: &Environment,
        started: Instant,
    ) -> Result<Self, Problem> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|value| value.trim().strip_suffix(" kB"));
        let (permanent, temporary) = environment.files()?;
        Ok(Self {
            elapsed: started.elapsed(),
            operations: environment.latencies.count(),
            resident_kib: resident.ok_or("the server has ended")?.parse()?,
            descriptors: fs::read_dir(format!("/proc/{process}/fd"))?.count(),
            files: permanent.len(),
            temporary: temporary.len(),
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, resident_kib, descriptors, files, temporary, .. } = self;
        let seconds = self.elapsed.as_secs();
        write!(
            f,
            "{seconds:>7} {operations:>10} {resident_kib:>10} {descriptors:>11} {files:>10} {temporary:>10}"
        )
    }
}

/// All samples of a run.
pub(crate) struct Samples {
    duration: Duration,
    samples: Vec<Sample>,
}

impl Samples {
    pub(crate) fn new(duration: Duration) -> Self {
        Self { duration, samples: Vec::new() }
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Compares the last quarter with the second. The tolerance covers the reserves of allocators and the random number
    /// of open connections.
    pub(crate) fn check_growth(&self) -> Result<(), Problem> {
        let mean = |quarter: u32, of: &dyn Fn(&Sample) -> f64| {
            let within = self.samples.iter().filter(|sample| {
                let quarters = sample.elapsed.as_secs_f64() * 4.0 / self.duration.as_secs_f64();
                // A sample at the end of a quarter belongs to that quarter.
                (f64::from(quarter - 1) + 0.1..f64::from(quarter) + 0.1).contains(&quarters)
            });
            let values: Vec<f64> = within.map(of).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        type Measure = (&'static str, fn(&Sample) -> f64, f64);
        let measures: [Measure; 3] = [
            ("memory in KiB", |sample| sample.resident_kib as f64, 8192.0),
            ("open descriptors", |sample| sample.descriptors as f64, 16.0),
            ("files", |sample| sample.files as f64, 64.0),
        ];
        let mut grown = Vec::new();
        for (resource, of, tolerance) in measures {
            let (before, after) = (mean(2, &of), mean(4, &of));
            println!("{resource}: {before:.0} in the second quarter, {after:.0} in the last");
            // A NaN, the mean of no samples, fails as well.
            let is_stable = after <= before * 1.1 + tolerance;
            if !is_stable {
                grown.push(resource);
            }
        }
        if grown.is_empty() {
            Ok(())
        } else {
            Err(format!("resources have grown: {grown:?}").into())
        }
    }
}
