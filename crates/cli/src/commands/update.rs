//! `gantry update`

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, types::UpdateResource};

use crate::{failure::Outcome, parse, spec::limits};

/// Change the resource limits of a container
///
/// What is not given stays as it is.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("limits").multiple(true).required(true))]
pub(crate) struct Update {
    /// Memory, such as 64m or 1g
    #[arg(short, long, group = "limits", value_name = "SIZE", value_parser = parse::size)]
    memory: Option<u64>,
    /// Memory plus swap
    #[arg(long, group = "limits", value_name = "SIZE", value_parser = parse::size)]
    memory_swap: Option<u64>,
    /// Memory that the container keeps when the host runs short
    #[arg(long, group = "limits", value_name = "SIZE", value_parser = parse::size)]
    memory_reservation: Option<u64>,
    /// Processors' time, such as 1.5: period and quota in one
    #[arg(long, group = "limits", value_name = "NUMBER", value_parser = limits::quota,
          conflicts_with_all = ["cpu_period", "cpu_quota"])]
    cpus: Option<i64>,
    /// Relative weight; 1024 is the default
    #[arg(long, group = "limits", value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Length of a period in microseconds
    #[arg(long, group = "limits", value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// CPU time per period in microseconds
    #[arg(long, group = "limits", value_name = "MICROSECONDS")]
    cpu_quota: Option<u64>,
    /// Processors to run on, such as 0-3,7
    #[arg(long, group = "limits", value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, group = "limits", value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Relative weight of disk access, 10 to 1000
    #[arg(long, group = "limits", value_name = "WEIGHT")]
    blkio_weight: Option<u64>,
    /// Number of processes and threads
    #[arg(long, group = "limits", value_name = "NUMBER")]
    pids_limit: Option<u64>,
    /// Id of the container
    id: String,
}

impl Update {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        client.container(&self.id).update(self.resources()).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn resources(&self) -> UpdateResource {
        let period = self.cpus.map(|_| limits::PERIOD);
        let quota = self.cpus.map(i64::unsigned_abs);
        UpdateResource {
            memory_limit: self.memory.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            cpu_period: self.cpu_period.or(period).unwrap_or_default(),
            cpu_quota: self.cpu_quota.or(quota).unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            pids_limit: self.pids_limit.unwrap_or_default(),
            ..UpdateResource::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    #[test]
    fn processors_are_a_quota_of_a_period() {
        let parse = |words: &str| {
            let command = Update::augment_args(Command::new("update"));
            let matches = command.try_get_matches_from(words.split(' '))?;
            Update::from_arg_matches(&matches)
        };
        let given = parse("update -m 64m --cpus 0.5 web").unwrap().resources();
        assert_eq!((given.memory_limit, given.cpu_quota), (64 << 20, 50_000));
        assert_eq!(given.cpu_period, 100_000);
        assert!(parse("update --cpus 0.5 --cpu-quota 1000 web").is_err());
        assert!(parse("update web").is_err());
    }
}
