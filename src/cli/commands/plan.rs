//! `flow plan`: what a run would do and why, with its cost.

use std::fmt::Write as _;

use crate::{
    cli::{
        app::{App, DEFAULT_MEMORY, Limits, Outcome, cores, print},
        arguments::PlanArgs,
        commands::run::temporary_folder,
    },
    model::{OutputTokens, count},
    report::plural,
    run::{self, Action, PlanOptions, RunPlan, Totals},
};

pub(in crate::cli) fn plan(app: &App, arguments: &PlanArgs) -> Outcome {
    let workspace = app.workspace_of(&arguments.selection.pipeline)?;
    let selected = app.select(&workspace, &arguments.selection)?;
    let options = PlanOptions { force: arguments.force, shard: app.shard(&workspace, arguments)? };
    let jobs = arguments.jobs.map_or_else(cores, usize::from);
    // Caps stop a run; a plan spends nothing.
    let limits = Limits { memory: arguments.memory_limit.unwrap_or(DEFAULT_MEMORY), jobs, ..Limits::default() };
    // A plan writes nothing into the project.
    let _temporary = match &arguments.temp_dir {
        Some(folder) => temporary_folder(app, &workspace, Some(folder))?,
        None => None,
    };
    let (stores, context) = app.context(&workspace.project, limits)?;
    let plan = app
        .block_on(jobs, run::plan(&workspace, &stores, &context, &selected, options))?
        .map_err(|refusal| app.refuse(&refusal, &workspace))?;
    if app.json() {
        return Ok(app.document(&plan));
    }
    Ok(print(&text(&plan)))
}

fn text(plan: &RunPlan) -> String {
    let mut out = String::new();
    let width = plan.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or_default();
    for node in &plan.nodes {
        let action = if node.action == Action::Run { "run " } else { "skip" };
        write!(out, "{action}  {:width$}  {}", node.name, node.reason).expect("a string takes all");
        out.push('\n');
        let mut more = |line: &str| writeln!(out, "      {:width$}  {line}", "").expect("a string takes all");
        // Mostly the reason has the number already.
        if node.removes > 0 && !node.reason.contains("to remove") {
            more(&format!("{} to remove, since the input no longer has them", node.removes));
        }
        if let Some(replacement) = &node.replacement {
            more(replacement);
        }
        for refusal in &node.refused {
            more("a run would be refused:");
            refusal.lines().for_each(|line| more(&format!("  {line}")));
        }
        let numbers = match (&node.cost, &node.unknown_until) {
            (Some(cost), _) if cost.rows > 0 => {
                format!("{}{}", costs(cost), if node.estimate { " (estimate)" } else { "" })
            }
            (None, Some(until)) => format!("unknown until `{until}` has run"),
            _ => continue,
        };
        writeln!(out, "      {:width$}  {numbers}", "").expect("a string takes all");
    }
    let total = match &plan.total.cost {
        Some(cost) if cost.rows > 0 => costs(cost),
        Some(_) => return out,
        None => {
            let nodes: Vec<_> = plan.total.unknown_until.iter().map(|node| format!("`{node}`")).collect();
            let verb = if nodes.len() == 1 { "has" } else { "have" };
            format!("unknown until {} {verb} run", nodes.join(", "))
        }
    };
    writeln!(out, "total {:width$}  {total}", "").expect("a string takes all");
    out
}

fn costs(cost: &Totals) -> String {
    let mut text = format!("{}, {}", plural(cost.rows, "row"), plural(cost.unique_rows, "different text"));
    if cost.cached_rows > 0 {
        write!(text, ", {} in the cache", count(cost.cached_rows)).expect("a string takes all");
    }
    if cost.requests > 0 {
        write!(text, ", {}, {}", plural(cost.requests, "request"), plural(cost.tokens, "token"))
            .expect("a string takes all");
    }
    if let Some(OutputTokens { least, most }) = cost.output_tokens.filter(|output| output.least > 0) {
        let most = most.map_or_else(String::new, |most| format!(" to {}", count(most)));
        write!(text, ", {}{most} tokens of answers", count(least)).expect("a string takes all");
    }
    if let Some(usd) = cost.cost_usd.filter(|usd| *usd > 0.0) {
        write!(text, ", ${usd:.4}").expect("a string takes all");
        if let Some(most) = cost.most_usd {
            write!(text, " to ${most:.4}").expect("a string takes all");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{NodePlan, PlanTotal};

    #[test]
    fn a_plan_reads_as_lines() {
        let cost = Totals {
            rows: 10,
            unique_rows: 8,
            cached_rows: 2,
            requests: 1,
            tokens: 40,
            cost_usd: Some(0.5),
            ..Totals::default()
        };
        let node = |name: &str, action, reason: &str, cost: Option<Totals>, estimate| NodePlan {
            name: name.to_owned(),
            action,
            reason: reason.to_owned(),
            partitions: None,
            removes: 0,
            replaces: 0,
            replacement: None,
            refused: Vec::new(),
            estimate,
            unknown_until: cost.is_none().then(|| "pick".to_owned()),
            cost,
        };
        let mut plan = RunPlan {
            plan_digest: String::new(),
            nodes: vec![
                node("cut", Action::Skip, "up to date", Some(Totals::default()), false),
                node("embed", Action::Run, "1 of 2 partitions missing", Some(cost), true),
            ],
            total: PlanTotal { cost: Some(cost), unknown_until: Vec::new() },
        };
        assert_eq!(
            text(&plan),
            "skip  cut    up to date\nrun   embed  1 of 2 partitions missing\n             \
             10 rows, 8 different texts, 2 in the cache, 1 request, 40 tokens, $0.5000 (estimate)\n\
             total        10 rows, 8 different texts, 2 in the cache, 1 request, 40 tokens, $0.5000\n"
        );
        plan.nodes[1].cost = None;
        plan.nodes[1].unknown_until = Some("pick".to_owned());
        plan.total = PlanTotal { cost: None, unknown_until: vec!["pick".to_owned()] };
        assert_eq!(
            text(&plan),
            "skip  cut    up to date\nrun   embed  1 of 2 partitions missing\n             \
             unknown until `pick` has run\ntotal        unknown until `pick` has run\n"
        );
    }
}
