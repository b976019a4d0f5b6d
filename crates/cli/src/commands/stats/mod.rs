//! `gantry stats`

mod sample;

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use gantry_api::{
    Timestamp,
    containerd::{
        task_types::{Process, Status},
        tasks::{ListTasksRequest, MetricsRequest, tasks_client::TasksClient},
    },
};
use gantry_client::Client;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use self::sample::Sample;
use crate::{
    containerd::{LARGEST_MESSAGE, about, failed},
    failure::{Failure, Outcome},
    output, parse,
    place::{Everywhere, PlaceOption},
    screen::Screen,
};

/// Print the resource usage of containers
///
/// Of the given ones until they have ended, or of all, also of those that are started later. On a terminal the table is
/// drawn in its place once an interval. Which containers are all is as with `gantry ps`.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Time between two readings
    #[arg(long, default_value = "1s", value_parser = parse::interval)]
    interval: Duration,
    /// Print one reading only
    #[arg(long)]
    no_stream: bool,
    /// Print JSON, one reading a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Everywhere,
    /// Ids of the containers
    ids: Vec<String>,
}

const HEAD: [&str; 6] = ["ID", "CPU", "MEMORY / LIMIT", "NET IN / OUT", "DISK IN / OUT", "PIDS"];

/// Which containers are read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// One of `types.API`.
    Plain(String),
    /// Those of a namespace with these ids, or all.
    In(String, Vec<String>),
}

/// What was read of containers.
#[derive(Debug, Default)]
struct Reading {
    samples: Vec<Sample>,
    /// One of them has not ended, whether or not it could be read.
    is_alive: bool,
}

/// The last reading of each container, by namespace and id.
type Readings = HashMap<(Option<String>, String), Sample>;

/// A reading as it is printed.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    time: String,
    stopped: bool,
    /// None if it is stopped.
    #[serde(flatten)]
    usage: Option<Usage>,
}

/// Bytes, and nanoseconds of CPU time.
#[derive(Debug, Serialize)]
struct Usage {
    cpu_percent: f64,
    cpu_total: u64,
    memory: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<u64>,
    net_in: u64,
    net_out: u64,
    disk_in: u64,
    disk_out: u64,
    pids: u64,
}

impl Stats {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let given = self.given(client).await?;
        let mut screen = Screen::new(!self.no_stream);
        let mut before = Readings::new();
        let mut ticks = time::interval(self.interval);
        // Who reads slowly wants the next reading in time, not the missed ones in a burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The use of CPU needs two readings, so that the first one is not shown.
        for round in 0_u64.. {
            ticks.tick().await;
            let targets = match &given {
                Some(targets) => Ok(targets.clone()),
                None => self.all(client).await,
            };
            let read = match targets {
                Ok(targets) => read(client, targets).await,
                Err(failure) => Err(failure),
            };
            let Reading { samples, is_alive } = match read {
                Ok(reading) => reading,
                // A server that is being restarted is waited for, unless it was never there.
                Err(failure) if failure.is_away() && round > 0 && !self.no_stream => continue,
                Err(failure) => return Err(failure),
            };
            if given.is_some() && !is_alive {
                if round == 0 {
                    let ids = self.ids.join(", ");
                    return Err(Failure::new(format!("nothing runs in container {ids}")));
                }
                break;
            }
            if round > 0 {
                self.show(&mut screen, &before, &samples)?;
            }
            if (round > 0 || samples.is_empty()) && self.no_stream {
                if round == 0 {
                    self.show(&mut screen, &before, &samples)?;
                }
                break;
            }
            let named = |sample: Sample| ((sample.namespace.clone(), sample.id.clone()), sample);
            before = samples.into_iter().map(named).collect();
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The containers that were named; none means all.
    async fn given(&self, client: &Client) -> Result<Option<Vec<Target>>, Failure> {
        if self.ids.is_empty() {
            return Ok(None);
        }
        let place = PlaceOption { namespace: self.place.namespace.clone() };
        let mut targets = Vec::new();
        for id in &self.ids {
            match place.find(client, id).await? {
                Some(found) => add(&mut targets, found.containers.namespace(), id),
                None => {
                    client.container(id).state().await?;
                    targets.push(Target::Plain(id.clone()));
                }
            }
        }
        Ok(Some(targets))
    }

    async fn all(&self, client: &Client) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        if self.place.has_plain() {
            let containers = client.state().await?.containers.into_iter();
            targets.extend(containers.map(|container| Target::Plain(container.id)));
        }
        let namespaces = self.place.namespaces(client).await?.into_iter();
        targets.extend(namespaces.map(|namespace| Target::In(namespace, Vec::new())));
        Ok(targets)
    }

    fn show(&self, screen: &mut Screen, before: &Readings, now: &[Sample]) -> Result<(), Failure> {
        let rows = now.iter().filter_map(|now| {
            let before = before.get(&(now.namespace.clone(), now.id.clone()))?;
            Some(Row::new(before, now))
        });
        if self.json {
            return rows.into_iter().try_for_each(|row| output::json(&row));
        }
        let mut table = vec![HEAD.map(str::to_owned)];
        table.extend(rows.map(|row| row.cells()));
        screen.draw(table)
    }
}

/// One more container of a namespace, all of whose containers are read together.
fn add(targets: &mut Vec<Target>, namespace: &str, id: &str) {
    let ids = targets.iter_mut().find_map(|target| match target {
        Target::In(name, ids) if name == namespace => Some(ids),
        _ => None,
    });
    match ids {
        Some(ids) => ids.push(id.to_owned()),
        None => targets.push(Target::In(namespace.to_owned(), vec![id.to_owned()])),
    }
}

/// Reads all of them at the same time; those that have ended are left out.
async fn read(client: &Client, targets: Vec<Target>) -> Result<Reading, Failure> {
    let mut reads = JoinSet::new();
    for target in targets {
        let client = client.clone();
        reads.spawn(async move {
            match target {
                Target::Plain(id) => plain(&client, &id).await,
                Target::In(namespace, ids) => of_namespace(&client, &namespace, &ids).await,
            }
        });
    }
    let mut all = Reading::default();
    while let Some(read) = reads.join_next().await {
        let read = read.map_err(|e| Failure::new(format!("read a container: {e}")))??;
        all.samples.extend(read.samples);
        all.is_alive |= read.is_alive;
    }
    all.samples.sort_unstable_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
    Ok(all)
}

async fn plain(client: &Client, id: &str) -> Result<Reading, Failure> {
    match client.container(id).stats().await {
        Ok(response) => {
            let sample = Sample::of_response(id, &response);
            Ok(Reading { is_alive: !sample.stopped, samples: vec![sample] })
        }
        Err(error) if error.is_gone() => Ok(Reading::default()),
        Err(error) => Err(error.into()),
    }
}

async fn of_namespace(
    client: &Client,
    namespace: &str,
    ids: &[String],
) -> Result<Reading, Failure> {
    let mut tasks = TasksClient::new(client.channel()).max_decoding_message_size(LARGEST_MESSAGE);
    let filters = ids.iter().map(|id| format!("id=={id:?}")).collect();
    let what = format!("read the usage of containers in namespace {namespace}");
    let metrics = tasks.metrics(about(namespace, MetricsRequest { filters })?).await;
    let metrics = metrics.map_err(|status| failed(&what, &status))?.into_inner().metrics;
    // A task whose process has ended has metrics, too, until it is deleted: zeros.
    let listed = tasks.list(about(namespace, ListTasksRequest::default())?).await;
    let listed = listed.map_err(|status| failed(&what, &status))?.into_inner().tasks;
    let is_alive = has_alive(&listed, ids);
    let stopped: HashSet<_> = listed
        .into_iter()
        .filter(|task| task.status() == Status::Stopped)
        .map(|task| task.id)
        .collect();
    let mut samples: Vec<_> =
        metrics.iter().filter_map(|it| Sample::of_metric(namespace, it)).collect();
    for sample in &mut samples {
        sample.stopped = stopped.contains(&sample.id);
    }
    Ok(Reading { samples, is_alive })
}

/// Whether one of these has not ended, or any if there are no ids.
fn has_alive(listed: &[Process], ids: &[String]) -> bool {
    listed
        .iter()
        .any(|task| task.status() != Status::Stopped && (ids.is_empty() || ids.contains(&task.id)))
}

impl Row {
    fn new(before: &Sample, now: &Sample) -> Row {
        Row {
            id: now.id.clone(),
            namespace: now.namespace.clone(),
            time: now.time.to_string(),
            stopped: now.stopped,
            usage: (!now.stopped).then(|| Usage::between(before, now)),
        }
    }

    fn cells(&self) -> [String; 6] {
        let id = self.namespace.iter().map(|it| format!("{it}/")).collect::<String>() + &self.id;
        let Some(usage) = &self.usage else {
            return [id.as_str(), "stopped", "--", "--", "--", "--"].map(str::to_owned);
        };
        let pair = |a: u64, b: u64| format!("{} / {}", output::bytes(a), output::bytes(b));
        let limit = usage.memory_limit.map_or("none".to_owned(), output::bytes);
        [
            id,
            format!("{:.1}%", usage.cpu_percent),
            format!("{} / {limit}", output::bytes(usage.memory)),
            pair(usage.net_in, usage.net_out),
            pair(usage.disk_in, usage.disk_out),
            usage.pids.to_string(),
        ]
    }
}

impl Usage {
    fn between(before: &Sample, now: &Sample) -> Usage {
        Usage {
            cpu_percent: cpu_percent(before, now),
            cpu_total: now.cpu_total,
            memory: now.memory,
            memory_limit: now.memory_limit,
            net_in: now.net_in,
            net_out: now.net_out,
            disk_in: now.disk_in,
            disk_out: now.disk_out,
            pids: now.pids,
        }
    }
}

/// In percent of one processor.
fn cpu_percent(before: &Sample, now: &Sample) -> f64 {
    let time = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let elapsed = time(now.time) - time(before.time);
    let used = now.cpu_total.saturating_sub(before.cpu_total);
    // One decimal is shown, so the precision that is lost does not matter.
    #[allow(clippy::cast_precision_loss)]
    if elapsed > 0 { used as f64 / elapsed as f64 * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: i64, cpu_total: u64) -> Sample {
        let time = Timestamp { seconds, nanos: 0 };
        Sample { id: "web".into(), time, cpu_total, memory: 70, ..Sample::default() }
    }

    #[test]
    fn cpu_is_what_was_used_between_two_readings() {
        let row = Row::new(&reading(10, 1_000_000_000), &reading(12, 2_000_000_000));
        let percent = row.usage.as_ref().unwrap().cpu_percent;
        assert!((percent - 50.0).abs() < 0.001, "{percent}");
        assert_eq!(row.cells()[2], "70B / none");
    }

    #[test]
    fn what_is_stopped_uses_nothing_rather_than_zero() {
        let stopped = Sample { stopped: true, ..reading(12, 0) };
        let row = Row::new(&reading(10, 1), &stopped);
        assert_eq!(row.cells()[..3], ["web", "stopped", "--"]);
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!((&json["stopped"], json.get("memory")), (&true.into(), None), "{json}");
        let json = serde_json::to_value(Row::new(&reading(10, 1), &reading(12, 1))).unwrap();
        assert_eq!((&json["stopped"], &json["memory"]), (&false.into(), &70.into()), "{json}");
    }

    #[test]
    fn one_that_cannot_be_read_has_not_ended() {
        let task = |id: &str, status: Status| Process {
            id: id.to_owned(),
            status: status.into(),
            ..Process::default()
        };
        let listed = [
            task("ended", Status::Stopped),
            task("paused", Status::Paused),
            task("web", Status::Running),
        ];
        let is_alive = |ids: &[&str]| {
            has_alive(&listed, &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())
        };
        assert!(is_alive(&[]) && is_alive(&["ended", "web"]) && is_alive(&["paused"]));
        assert!(!is_alive(&["ended"]) && !is_alive(&["ended", "gone"]));
    }

    #[test]
    fn ids_of_one_namespace_are_read_together() {
        let mut targets = vec![Target::Plain("p".to_owned())];
        for (namespace, id) in [("moby", "a"), ("k8s.io", "a"), ("moby", "b")] {
            add(&mut targets, namespace, id);
        }
        let of = |namespace: &str, ids: &[&str]| {
            Target::In(namespace.to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())
        };
        let plain = Target::Plain("p".to_owned());
        assert_eq!(targets, [plain, of("moby", &["a", "b"]), of("k8s.io", &["a"])]);
    }

    #[test]
    fn two_readings_at_one_time_are_no_division_by_zero() {
        assert_eq!(Row::new(&reading(10, 1), &reading(10, 2)).cells()[1], "0.0%");
    }
}
