//! `flow accept`: takes over existing outputs as up to date.

use serde_json::json;

use crate::{
    cli::{
        Exit,
        app::{App, Limits, Outcome, print},
    },
    graph::Selection,
    run::{self, EventSink, Events, event::Event},
};

/// What is recorded is not shown as it happens.
struct Silent;

impl EventSink for Silent {
    fn event(&mut self, _: &Event) {}
}

pub(in crate::cli) fn accept(app: &App, nodes: &[String]) -> Outcome {
    let workspace = app.workspace()?;
    let selection = Selection { nodes: nodes.to_vec(), ..Selection::default() };
    let selected: Vec<_> = match workspace.graph.select(&selection) {
        Ok(selected) => selected.into_iter().collect(),
        Err(problems) => {
            app.report(&problems.into_sorted(), &workspace.project.sources);
            return Ok(Exit::Wrong);
        }
    };
    let limits = Limits::default();
    let (stores, context) = app.context(&workspace.project, limits)?;
    let (events, receiver) = Events::new(&super::run::run_id());
    let events = events.masking(app.secrets.clone());
    let (usage, rows) = (context.service.usage.clone(), events.row_counter());
    let ledger = App::state_folder(&workspace.project).join("runs");
    let recording = std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(move || run::run_event_loop(&receiver, (&ledger, true), &usage, &rows, &mut Silent))
        .map_err(|error| app.fail(Exit::Environment, format!("cannot start a thread: {error}")))?;
    let accepted = app.block_on(limits.jobs, async {
        let accepted = run::accept(&workspace, &stores, &context, &selected, &events).await;
        context.python.shut_down().await;
        accepted
    })?;
    drop(events);
    if recording.join().is_err() {
        return Ok(Exit::Bug);
    }
    let accepted = accepted.map_err(|refusal| app.refuse(&refusal, &workspace))?;
    if app.json() {
        let list = accepted.iter().map(|one| json!({"node": one.node, "datasets": one.datasets}));
        return Ok(app.document(&json!({"accepted": list.collect::<Vec<_>>()})));
    }
    let line = |one: &run::Accepted| match one.datasets.as_slice() {
        [] => format!("{}: up to date already\n", one.node),
        datasets => format!("{}: accepted {}\n", one.node, datasets.join(", ")),
    };
    Ok(print(&accepted.iter().map(line).collect::<String>()))
}
