//! What is known of containers, also while their tasks do not answer.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Instant, sleep_until};

use crate::{
    SupervisorError,
    evidence::Evidence,
    handle::{ContainerHandle, ContainerView, Request},
};

/// The view that a container's task showed last; none before its start was published.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastKnown(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    view: Option<ContainerView>,
    /// When the view is from an earlier server: what it depends on, if that is known.
    left_with: Option<Evidence>,
}

impl LastKnown {
    /// With what the view depends on, if that is known and the view is of what an earlier server has left.
    pub(crate) fn set(&self, view: Option<ContainerView>, left_with: Option<Evidence>) {
        *self.lock() = Shown { view, left_with };
    }

    /// What an earlier server has left, while nobody knows what became of it.
    pub(crate) fn left(&self) -> Option<(ContainerView, Evidence)> {
        let shown = self.lock();
        let evidence = shown.left_with?;
        Some((shown.view.clone()?, evidence))
    }

    pub(crate) fn is_there(&self) -> bool {
        self.lock().view.is_some()
    }

    /// A part of it.
    pub(crate) fn read<T>(&self, part: impl FnOnce(&ContainerView) -> T) -> Option<T> {
        self.lock().view.as_ref().map(part)
    }

    fn get(&self) -> Option<ContainerView> {
        self.lock().view.clone().map(|view| ContainerView { is_stale: true, ..view })
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        // It is whole after any panic: each change to it is a single assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Views of all containers. All actors are asked at once; for those that miss the deadline the last known
/// view is used. Starting and ended containers are left out.
pub(crate) async fn see(handles: &[ContainerHandle], deadline: Instant) -> Vec<ContainerView> {
    let asked: Vec<_> = handles.iter().map(|handle| (handle, handle.send(Request::View))).collect();
    let mut too_late = pin!(sleep_until(deadline));
    let mut seen = Vec::with_capacity(asked.len());
    for (handle, sent) in asked {
        let last_known = || handle.last_known.get();
        let answer = match sent {
            Ok(answer) => answer,
            // So many requests wait for it that not even this one can.
            Err(SupervisorError::Overloaded) => {
                seen.extend(last_known());
                continue;
            }
            Err(_) => continue,
        };
        seen.extend(tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(view) => view.ok(),
                Err(_) => None,
            },
            () = &mut too_late => last_known(),
        });
    }
    seen
}

/// Views for tests.
#[cfg(test)]
pub(crate) mod testing {
    use gantry_domain::{ContainerId, Labels};

    use super::*;

    pub(crate) fn view(id: &str, phase: gantry_domain::Phase) -> ContainerView {
        ContainerView {
            id: ContainerId::parse(id).unwrap(),
            bundle: "/b".into(),
            runtime: String::new(),
            labels: Arc::default(),
            event_labels: Labels::default(),
            phase,
            processes: Vec::new(),
            cgroup: None,
            is_stale: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{testing::view, *};
    use crate::actor::Message;
    use gantry_domain::{ContainerId, ContainerKey, Namespace, Phase};
    use tokio::sync::mpsc;

    fn container(id: &str) -> (ContainerHandle, mpsc::Receiver<Message>) {
        let (mailbox, messages) = mpsc::channel(1);
        let key =
            ContainerKey { namespace: Namespace::TYPES_API, id: ContainerId::parse(id).unwrap() };
        let last_known = LastKnown::default();
        last_known.set(Some(view(id, Phase::Paused)), None);
        let handle =
            ContainerHandle { key, mailbox, half_made: false, idempotency: None, last_known };
        (handle, messages)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_shown_as_last_known() {
        let (silent, _unread) = container("silent");
        let (full, _full) = container("full");
        let _waiting = full.send(Request::View).unwrap();
        let (gone, messages) = container("gone");
        drop(messages);
        let (quick, mut messages) = container("quick");
        tokio::spawn(async move {
            while let Some(Message::Request(Request::View(reply))) = messages.recv().await {
                let _ = reply.send(Ok(view("quick", Phase::Running)));
            }
        });
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(2);
        let seen = see(&[silent.clone(), full, gone, silent, quick], deadline).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
        let seen: Vec<_> = seen.iter().map(|view| (view.id.as_str(), view.is_stale)).collect();
        let expected = [("silent", true), ("full", true), ("silent", true), ("quick", false)];
        assert_eq!(seen, expected);
    }
}
