//! Which program each traced thread runs.

use std::{collections::HashMap, fs, path::Path, rc::Rc};

use nix::unistd::Pid;

/// The threads that are traced.
pub(crate) struct Programs {
    /// The program that the tracer was started for.
    root: Rc<str>,
    threads: HashMap<Pid, Rc<str>>,
    /// It was executed: what happened before is not its own.
    began: bool,
    shims: usize,
}

impl Programs {
    pub(crate) fn new(root: &str, thread: Pid) -> Self {
        let root = Rc::from(root);
        Self { threads: HashMap::from([(thread, Rc::clone(&root))]), root, began: false, shims: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.began
    }

    /// `None` for a thread that no traced thread is known to have made yet.
    pub(crate) fn of(&self, thread: Pid) -> Option<&Rc<str>> {
        self.threads.get(&thread)
    }

    /// `parent` has made `child`: a thread of the same program, or a process that is about to execute
    /// another one.
    pub(crate) fn made(&mut self, parent: Pid, child: Pid) {
        let Some(program) = self.threads.get(&parent) else { return };
        let is_thread =
            process_of(parent).is_some_and(|process| process_of(child) == Some(process));
        let program = if is_thread { Rc::clone(program) } else { format!("{program}/fork").into() };
        self.threads.insert(child, program);
    }

    /// A process has executed a program; whether it is one to be traced further.
    pub(crate) fn executed(&mut self, process: Pid) -> bool {
        let program = fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
        let is_root = self.threads.get(&process) == Some(&self.root);
        if is_root {
            self.began = true;
            return true;
        }
        if !is_shim(&program) {
            self.ended(process);
            return false;
        }
        self.shims += 1;
        self.threads.insert(process, format!("{}/shim{}", self.root, self.shims).into());
        true
    }

    pub(crate) fn ended(&mut self, thread: Pid) {
        self.threads.remove(&thread);
    }
}

fn is_shim(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.to_string_lossy().contains("shim"))
}

/// The process that a thread belongs to.
fn process_of(thread: Pid) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Some(line.trim().to_owned())
}
