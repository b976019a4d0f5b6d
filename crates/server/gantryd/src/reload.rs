//! SIGHUP: the configuration is read again, and what can change without a restart changes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, TryLockError},
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    access::Access,
    config::{Command, Config},
    logging::Log,
};

struct Reload {
    /// What is in force.
    config: Config,
    log: Log,
    access: Access,
    /// The paths of those that are open.
    sockets: Vec<PathBuf>,
}

/// Reads the configuration again at every SIGHUP. Of several that come while it is being read, all
/// but the first may be ignored.
pub(crate) fn on_hangup(
    config: Config,
    log: Log,
    access: Access,
    sockets: Vec<PathBuf>,
) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    let reload = Arc::new(Mutex::new(Reload { config, log, access, sockets }));
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let reload = Arc::clone(&reload);
            // Reading a file may take long, and a pipe in its place for ever.
            let started = thread::Builder::new().spawn(move || match reload.try_lock() {
                Ok(mut reload) => reload.run(),
                Err(TryLockError::Poisoned(reload)) => reload.into_inner().run(),
                Err(TryLockError::WouldBlock) => {
                    tracing::warn!("the configuration is being read already");
                }
            });
            if let Err(error) = started {
                tracing::error!(%error, "cannot read the configuration again");
            }
        }
    });
    Ok(())
}

impl Reload {
    /// Flags still have precedence over the file.
    fn run(&mut self) {
        match Command::parse_again(std::env::args_os(), &self.config) {
            Ok(Command::Serve(new)) => self.apply(&new),
            Ok(Command::Print(_) | Command::OciHook(_)) => {}
            Err(error) => tracing::error!(%error, "the configuration stays as it is"),
        }
    }

    fn apply(&mut self, new: &Config) {
        let mut reloaded = Vec::new();
        if new.log_level != self.config.log_level {
            if let Err(error) = self.log.set_filter(&new.log_level) {
                tracing::error!(%error, log_level = new.log_level, "the configuration stays as it is");
                return;
            }
            self.config.log_level.clone_from(&new.log_level);
            reloaded.push("log_level");
        }
        let is_configured = |path: &Path| new.listener.iter().any(|socket| socket.path == path);
        let access = new.access.clone().after(&self.config.access, is_configured);
        if access != self.config.access {
            self.access.set(access.clone());
            self.config.access = access;
            reloaded.push("access");
        }
        self.config.access.warn_of_open(&self.sockets);
        self.config.file.clone_from(&new.file);
        let waiting = self.config.differing(new);
        tracing::info!(?reloaded, needs_restart = ?waiting, "the configuration was read again");
    }
}
