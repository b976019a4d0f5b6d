//! How much of the host a container may use.

use clap::Args;
use gantry_client::oci_spec::runtime::{LinuxCpuBuilder, Spec};

use super::unusable;
use crate::{failure::Failure, parse};

/// Length of a period, in microseconds: the kernel's default, see Documentation/scheduler/sched-bwc.
pub(crate) const PERIOD: u64 = 100_000;

/// The least time of a period that the kernel takes, in microseconds.
const LEAST: f64 = 1_000.0;

/// Most of each.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LimitOptions {
    /// Memory limit, such as 64m or 1g
    #[arg(short, long, value_name = "SIZE", value_parser = parse::size)]
    pub(crate) memory: Option<u64>,
    /// Processors' time, such as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = quota)]
    pub(crate) cpus: Option<i64>,
    /// Weight against others where processors are short; 1024 is the usual one
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<u64>,
    /// Number of processes and threads
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<u32>,
}

/// Microseconds of each period.
pub(crate) fn quota(text: &str) -> Result<i64, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("{text:?} is no number such as 1.5"))?;
    // No machine has more, and what is below is exact enough.
    #[allow(clippy::cast_precision_loss)]
    let quota = cpus * PERIOD as f64;
    if !(LEAST..=1e12).contains(&quota) {
        return Err(format!("{text:?}: want 0.01 or more processors"));
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok(quota.round() as i64)
}

impl LimitOptions {
    /// Sets what the default configuration has no word for.
    pub(super) fn apply(&self, spec: &mut Spec) -> Result<(), Failure> {
        if self.cpus.is_none() && self.cpu_shares.is_none() {
            return Ok(());
        }
        let mut cpu = LinuxCpuBuilder::default();
        if let Some(quota) = self.cpus {
            cpu = cpu.quota(quota).period(PERIOD);
        }
        if let Some(shares) = self.cpu_shares {
            cpu = cpu.shares(shares);
        }
        let cpu = cpu.build().map_err(|e| unusable(&e))?;
        let linux = spec.linux_mut().as_mut();
        if let Some(resources) = linux.and_then(|linux| linux.resources_mut().as_mut()) {
            resources.set_cpu(Some(cpu));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_time_of_a_period() {
        assert_eq!(quota("1.5"), Ok(150_000));
        assert_eq!(quota("0.01"), Ok(1_000));
        for bad in ["0", "-1", "0.001", "NaN", "inf", "1e99", "two"] {
            quota(bad).unwrap_err();
        }
    }
}
