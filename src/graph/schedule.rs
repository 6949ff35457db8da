//! The schedule: which task may start next.
//!
//! Pure: the caller says what finished or failed, and asks what may start. Nothing is run here.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::Graph;

/// What happens after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Nothing else starts.
    Stop,
    /// What does not depend on the failed task continues.
    KeepGoing,
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// A task it needs is not done.
    Waiting,
    /// It may start.
    Ready,
    /// It was started and has not ended.
    Running,
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// It will not start: a task it needs failed.
    Blocked,
    /// It will not start: the run was stopped, and nothing it needs has failed.
    Stopped,
}

impl TaskState {
    /// True when nothing more will happen to the task.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Running)
    }
}

/// Tasks by name, with their dependencies.
///
/// Of several ready tasks the one at the head of the costliest chain comes first, so that the critical path is never
/// kept waiting; ties are broken by name.
#[derive(Debug, Clone)]
pub struct Schedule {
    tasks: Vec<Task>,
    indices: HashMap<String, usize>,
    /// Ready tasks, the next one first.
    ready: BTreeSet<(Reverse<u64>, String)>,
    stopped: bool,
}

#[derive(Debug, Clone)]
struct Task {
    name: String,
    state: TaskState,
    /// Its own cost and that of the costliest chain of tasks that wait for it.
    chain: u64,
    /// How many of the tasks it needs are not done.
    missing: usize,
    dependents: Vec<usize>,
}

impl Schedule {
    /// A queue of the nodes whose names are `selected`, all of equal cost. A node waits for those of its direct
    /// dependencies that are selected; what the others write is used as it is.
    pub fn new(graph: &Graph, selected: impl Fn(&str) -> bool) -> Self {
        let tasks = graph.nodes().iter().filter(|node| selected(&node.name)).map(|node| {
            let needs = graph.dependencies(node.id).into_iter().map(|id| graph[id].name.clone());
            (node.name.clone(), 1, needs.filter(|name| selected(name)).collect())
        });
        Self::of(tasks)
    }

    /// A queue of tasks: name, cost, and the names of the tasks it needs. A dependency that is not a task of the
    /// queue counts as done. Tasks must come after what they need, as the nodes of a graph do.
    pub fn of(tasks: impl IntoIterator<Item = (String, u64, Vec<String>)>) -> Self {
        let mut all: Vec<Task> = Vec::new();
        let mut costs = Vec::new();
        let mut indices: HashMap<String, usize> = HashMap::new();
        for (name, cost, mut needs) in tasks {
            needs.sort_unstable();
            needs.dedup();
            let index = all.len();
            let mut missing = 0;
            for &need in needs.iter().filter_map(|need| indices.get(need)) {
                all[need].dependents.push(index);
                missing += 1;
            }
            indices.insert(name.clone(), index);
            costs.push(cost);
            all.push(Task { name, state: TaskState::Waiting, chain: 0, missing, dependents: Vec::new() });
        }
        for index in (0..all.len()).rev() {
            let longest = all[index].dependents.iter().map(|next| all[*next].chain).max().unwrap_or_default();
            all[index].chain = longest.saturating_add(costs[index]);
        }
        let mut queue = Self { tasks: all, indices, ready: BTreeSet::new(), stopped: false };
        for index in 0..queue.tasks.len() {
            if queue.tasks[index].missing == 0 {
                queue.make_ready(index);
            }
        }
        queue
    }

    /// Takes the next ready task; it is running from now on. `None` when nothing is ready, which may change when a
    /// running task finishes.
    pub fn dequeue(&mut self) -> Option<String> {
        let (_, name) = self.ready.pop_first()?;
        let index = self.indices[&name];
        self.tasks[index].state = TaskState::Running;
        Some(name)
    }

    /// Records that a running task succeeded, which may make others ready.
    ///
    /// # Panics
    /// When the task is not running: each is finished or failed once.
    pub fn finish(&mut self, name: &str) {
        let index = self.running(name);
        self.tasks[index].state = TaskState::Done;
        for next in self.tasks[index].dependents.clone() {
            self.tasks[next].missing -= 1;
            if self.tasks[next].missing == 0 && self.tasks[next].state == TaskState::Waiting {
                self.make_ready(next);
            }
        }
    }

    /// Records that a running task failed. Returns the tasks that cannot run any more because of it, direct and indirect
    /// dependents, in the order of the queue; each is returned once in the life of a queue.
    ///
    /// # Panics
    /// When the task is not running: each is finished or failed once.
    pub fn fail(&mut self, name: &str, policy: FailurePolicy) -> Vec<String> {
        let index = self.running(name);
        self.tasks[index].state = TaskState::Failed;
        let mut blocked = BTreeMap::new();
        let mut next = self.tasks[index].dependents.clone();
        while let Some(index) = next.pop() {
            let task = &mut self.tasks[index];
            if matches!(task.state, TaskState::Waiting | TaskState::Stopped) {
                task.state = TaskState::Blocked;
                blocked.insert(index, task.name.clone());
                next.extend(&task.dependents);
            }
        }
        if policy == FailurePolicy::Stop {
            self.stop();
        }
        blocked.into_values().collect()
    }

    /// Starts nothing more. Running tasks can still finish or fail.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.ready.clear();
        for task in &mut self.tasks {
            if matches!(task.state, TaskState::Waiting | TaskState::Ready) {
                task.state = TaskState::Stopped;
            }
        }
    }

    /// True when nothing is running and nothing more can start.
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|task| task.state.is_final())
    }

    /// The state of a task; `None` when it is not in the queue.
    pub fn state(&self, name: &str) -> Option<TaskState> {
        self.indices.get(name).map(|index| self.tasks[*index].state)
    }

    /// All tasks with their states, in the order in which they were given.
    pub fn states(&self) -> impl ExactSizeIterator<Item = (&str, TaskState)> {
        self.tasks.iter().map(|task| (task.name.as_str(), task.state))
    }

    fn make_ready(&mut self, index: usize) {
        if !self.stopped {
            let task = &mut self.tasks[index];
            task.state = TaskState::Ready;
            self.ready.insert((Reverse(task.chain), task.name.clone()));
        }
    }

    fn running(&self, name: &str) -> usize {
        let index = self.indices.get(name).copied();
        index
            .filter(|index| self.tasks[*index].state == TaskState::Running)
            .expect("only a running task ends, and once")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::Sketch, *};

    fn queue(tasks: &[(&str, u64, &[&str])]) -> Schedule {
        Schedule::of(tasks.iter().map(|(name, cost, needs)| {
            ((*name).to_owned(), *cost, needs.iter().map(|need| (*need).to_owned()).collect())
        }))
    }

    fn ready(queue: &mut Schedule) -> Vec<String> {
        std::iter::from_fn(|| queue.dequeue()).collect()
    }

    #[test]
    fn the_head_of_the_costliest_chain_comes_first_and_equals_come_by_name() {
        let mut queue = queue(&[
            ("z", 1, &[]),
            ("cheap", 1, &[]),
            ("dear", 5, &[]),
            ("head", 1, &[]),
            ("long", 9, &["head"]),
            ("after_z", 1, &["z"]),
            ("a", 2, &[]),
        ]);
        assert_eq!(ready(&mut queue), ["head", "dear", "a", "z", "cheap"]);
        queue.finish("z");
        queue.finish("head");
        assert_eq!(ready(&mut queue), ["long", "after_z"]);
    }

    #[test]
    fn a_node_waits_for_selected_dependencies_only() {
        let graph = Sketch::new()
            .node("p", "a", &[], &["x"])
            .node("p", "b", &["x"], &["y"])
            .node("p", "c", &["y"], &[])
            .node("p", "d", &["x"], &[])
            .graph();
        let mut queue = Schedule::new(&graph, |name| name != "b");
        assert_eq!(ready(&mut queue), ["a", "c"]);
        queue.finish("a");
        assert_eq!(ready(&mut queue), ["d"]);
        assert_eq!(queue.state("b"), None);
    }

    #[test]
    fn a_failure_blocks_what_depends_on_it_and_the_policy_decides_on_the_rest() {
        let tasks: &[(&str, u64, &[&str])] = &[
            ("bad", 1, &[]),
            ("good", 1, &[]),
            ("next", 1, &["bad"]),
            ("last", 1, &["next", "good"]),
            ("other", 1, &["good"]),
        ];
        let mut going = queue(tasks);
        assert_eq!(ready(&mut going), ["bad", "good"]);
        assert_eq!(going.fail("bad", FailurePolicy::KeepGoing), ["next", "last"]);
        going.finish("good");
        assert_eq!(ready(&mut going), ["other"]);
        going.finish("other");
        assert!(going.is_over());

        let mut stopping = queue(tasks);
        ready(&mut stopping);
        assert_eq!(stopping.fail("bad", FailurePolicy::Stop), ["next", "last"]);
        assert!(!stopping.is_over(), "`good` is still running");
        stopping.finish("good");
        assert_eq!(stopping.dequeue(), None);
        assert_eq!(stopping.state("other"), Some(TaskState::Stopped));
        assert!(stopping.is_over());
    }

    #[test]
    fn a_second_failure_blocks_what_the_first_only_stopped() {
        let mut queue = queue(&[("a", 1, &[]), ("b", 1, &[]), ("c", 1, &["b"])]);
        ready(&mut queue);
        assert_eq!(queue.fail("a", FailurePolicy::Stop), [""; 0]);
        assert_eq!(queue.state("c"), Some(TaskState::Stopped));
        assert_eq!(queue.fail("b", FailurePolicy::Stop), ["c"]);
    }

    proptest! {
        /// Any graph, any order of endings, any failures, a stop at any time.
        #[test]
        fn every_task_ends_once_and_none_starts_before_its_needs(
            needs in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..30),
            costs in prop::collection::vec(0_u64..5, 30),
            choices in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..10), 200),
            keep_going in any::<bool>(),
            parallel in 1_usize..5,
        ) {
            let needs: Vec<Vec<String>> = needs
                .iter()
                .enumerate()
                .map(|(i, picks)| if i == 0 { Vec::new() } else { picks.iter().map(|pick| format!("t{}", pick.index(i))).collect() })
                .collect();
            let tasks = needs.iter().enumerate().map(|(i, needs)| (format!("t{i}"), costs[i], needs.clone()));
            let mut queue = Schedule::of(tasks);
            let policy = if keep_going { FailurePolicy::KeepGoing } else { FailurePolicy::Stop };
            let mut running: Vec<String> = Vec::new();
            let mut ended: BTreeMap<String, TaskState> = BTreeMap::new();
            let mut stopped = false;
            let mut choices = choices.into_iter().cycle();
            loop {
                while running.len() < parallel {
                    let Some(name) = queue.dequeue() else { break };
                    let number: usize = name[1..].parse().expect("a number");
                    prop_assert!(!stopped, "{name} was started after a stop");
                    for need in &needs[number] {
                        prop_assert_eq!(ended.get(need), Some(&TaskState::Done), "{} was started before {}", name, need);
                    }
                    running.push(name);
                }
                if running.is_empty() {
                    break;
                }
                let (pick, fate) = choices.next().expect("endless");
                let name = running.swap_remove(pick.index(running.len()));
                let end = if fate == 0 { TaskState::Failed } else { TaskState::Done };
                let mut more = vec![(name.clone(), end)];
                if end == TaskState::Failed {
                    more.extend(queue.fail(&name, policy).into_iter().map(|name| (name, TaskState::Blocked)));
                    stopped |= !keep_going;
                } else {
                    queue.finish(&name);
                }
                for (name, end) in more {
                    prop_assert_eq!(ended.insert(name.clone(), end), None, "{} ended twice", name);
                }
            }
            prop_assert!(queue.is_over());
            for (name, state) in queue.states() {
                match ended.get(name) {
                    Some(end) => prop_assert_eq!(*end, state),
                    None => prop_assert!(stopped && state == TaskState::Stopped, "{} is {:?}", name, state),
                }
            }
        }
    }
}
