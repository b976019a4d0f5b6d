//! `gantry update`

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, types::UpdateResource};

use crate::{failure::Outcome, parse};

/// Change the resource limits of a container
///
/// What is not given stays as it is.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("limits").multiple(true).required(true))]
pub(crate) struct Update {
    /// Memory, such as 64m or 1g
    #[arg(long, group = "limits", value_name = "SIZE", value_parser = parse::size)]
    memory: Option<u64>,
    /// Memory plus swap
    #[arg(long, group = "limits", value_name = "SIZE", value_parser = parse::size)]
    memory_swap: Option<u64>,
    /// Memory that the container keeps when the host runs short
    #[arg(long, group = "limits", value_name = "SIZE", value_parser = parse::size)]
    memory_reservation: Option<u64>,
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
        let resources = UpdateResource {
            memory_limit: self.memory.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.unwrap_or_default(),
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            pids_limit: self.pids_limit.unwrap_or_default(),
            ..UpdateResource::default()
        };
        client.container(&self.id).update(resources).await?;
        Ok(ExitCode::SUCCESS)
    }
}
