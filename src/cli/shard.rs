//! `--shard`: which part of the partitions this process computes, as typed or as the scheduler's variables say.
//!
//! Owns the names of those variables. Pure: the environment is passed in.

use crate::model::Shard;

/// Overrides how many shards there are, for every scheduler; then indices count from 0.
pub(super) const COUNT: &str = "FLOW_SHARDS";

/// What `--shard` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShardArgument {
    /// What the scheduler's variables say.
    Auto,
    /// This one.
    Given(Shard),
}

impl std::str::FromStr for ShardArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Given).map_err(|error: crate::model::InvalidShard| error.to_string())
    }
}

/// The variables of one scheduler.
struct Scheduler {
    name: &'static str,
    index: &'static str,
    count: Option<&'static str>,
    /// The first index and the distance between two of them.
    first: Option<&'static str>,
    step: Option<&'static str>,
}

const SCHEDULERS: &[Scheduler] = &[
    Scheduler {
        name: "SLURM job array",
        index: "SLURM_ARRAY_TASK_ID",
        count: Some("SLURM_ARRAY_TASK_COUNT"),
        first: Some("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
    },
    Scheduler { name: "Kubernetes indexed job", index: "JOB_COMPLETION_INDEX", count: None, first: None, step: None },
    Scheduler {
        name: "AWS Batch array job",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
        first: None,
        step: None,
    },
];

impl ShardArgument {
    /// The shard. `environment` gives the value of a variable that is set and not empty.
    ///
    /// # Errors
    /// With what the variables say instead, and the way out.
    pub(super) fn resolve(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Shard, String> {
        let Self::Given(shard) = self else { return from_scheduler(environment) };
        Ok(shard)
    }
}

fn from_scheduler(environment: &dyn Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let found: Vec<&Scheduler> = SCHEDULERS.iter().filter(|scheduler| environment(scheduler.index).is_some()).collect();
    let scheduler = match found.as_slice() {
        [one] => *one,
        [] => {
            let names: Vec<_> = SCHEDULERS.iter().map(|scheduler| format!("`{}`", scheduler.index)).collect();
            return Err(format!(
                "`--shard auto` finds no scheduler: none of {} is set\nhelp: give the shard, as in `--shard 3/8`",
                names.join(", ")
            ));
        }
        several => {
            let names: Vec<_> = several.iter().map(|scheduler| format!("`{}`", scheduler.index)).collect();
            return Err(format!(
                "`--shard auto` finds several schedulers: {} are set\nhelp: give the shard, as in `--shard 3/8`",
                names.join(" and ")
            ));
        }
    };
    let number = |variable: &str| -> Result<Option<u64>, String> {
        let Some(text) = environment(variable) else { return Ok(None) };
        let number = text.parse().map_err(|_| format!("`{variable}` is `{text}`, and not a number from 0"))?;
        Ok(Some(number))
    };
    let index = number(scheduler.index)?.unwrap_or_default();
    if let Some(count) = number(COUNT)? {
        return Shard::new(index, count).map_err(|_| {
            format!(
                "`{}` is {index} and `{COUNT}` is {count}: with `{COUNT}`, indices are from 0 to {}",
                scheduler.index,
                count.saturating_sub(1)
            )
        });
    }
    let missing = |variable: &str| {
        format!(
            "`--shard auto` in a {}: `{variable}` is not set, so the number of shards is not known\nhelp: set `{COUNT}` to it",
            scheduler.name
        )
    };
    let count = match scheduler.count {
        None => return Err(missing(COUNT)),
        Some(variable) => number(variable)?.ok_or_else(|| missing(variable))?,
    };
    let first = scheduler.first.map(number).transpose()?.flatten().unwrap_or_default();
    let step = scheduler.step.map(number).transpose()?.flatten().unwrap_or(1).max(1);
    let position = index.checked_sub(first).filter(|offset| offset % step == 0).map(|offset| offset / step);
    position.and_then(|position| Shard::new(position, count).ok()).ok_or_else(|| {
        format!(
            "the indices of this {} are not evenly spaced: `{}` is {index}, of {count} from {first} in steps of {step}\nhelp: set \
             `{COUNT}` to the number of all shards, or give the shard, as in `--shard \"${}/8\"`",
            scheduler.name, scheduler.index, scheduler.index
        )
    })
}

/// A name that all tasks of a job array share, where the scheduler gives one.
pub(super) fn group(environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(job) = environment("SLURM_ARRAY_JOB_ID") {
        return Some(format!("slurm-{job}"));
    }
    // The id of a child is that of the array and its index.
    environment("AWS_BATCH_JOB_ARRAY_INDEX")?;
    environment("AWS_BATCH_JOB_ID").map(|job| job.split(':').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(variables: &[(&str, &str)]) -> Result<String, String> {
        let environment =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        ShardArgument::Auto.resolve(&environment).map(|shard| shard.to_string())
    }

    #[test]
    fn the_variables_of_each_scheduler_give_the_shard() {
        let slurm = |id, count, min, step| {
            auto(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_STEP", step),
            ])
        };
        assert_eq!(slurm("3", "8", "0", "1").as_deref(), Ok("3/8"));
        assert_eq!(slurm("1", "8", "1", "1").as_deref(), Ok("0/8"));
        assert_eq!(slurm("8", "8", "1", "1").as_deref(), Ok("7/8"));
        assert_eq!(slurm("14", "8", "0", "2").as_deref(), Ok("7/8"));
        assert_eq!(auto(&[("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_COUNT", "4")]).as_deref(), Ok("2/4"));
        assert_eq!(auto(&[("JOB_COMPLETION_INDEX", "5"), ("FLOW_SHARDS", "8")]).as_deref(), Ok("5/8"));
        let aws = [("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "2")];
        assert_eq!(auto(&aws).as_deref(), Ok("0/2"));
        // Tasks 3 and 5 of eight again: their indices are those of all eight.
        let again = [
            ("SLURM_ARRAY_TASK_ID", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
            ("FLOW_SHARDS", "8"),
        ];
        assert_eq!(auto(&again).as_deref(), Ok("5/8"));
    }

    #[test]
    fn variables_that_do_not_say_which_shard_are_refused_with_the_way_out() {
        for (variables, expected) in [
            (vec![], "none of `SLURM_ARRAY_TASK_ID`, `JOB_COMPLETION_INDEX`, `AWS_BATCH_JOB_ARRAY_INDEX` is set"),
            (
                vec![("SLURM_ARRAY_TASK_ID", "1"), ("JOB_COMPLETION_INDEX", "1")],
                "`SLURM_ARRAY_TASK_ID` and `JOB_COMPLETION_INDEX` are set",
            ),
            (vec![("JOB_COMPLETION_INDEX", "1")], "help: set `FLOW_SHARDS` to it"),
            (vec![("SLURM_ARRAY_TASK_ID", "1")], "`SLURM_ARRAY_TASK_COUNT` is not set"),
            (vec![("AWS_BATCH_JOB_ARRAY_INDEX", "1")], "`AWS_BATCH_JOB_ARRAY_SIZE` is not set"),
            (vec![("JOB_COMPLETION_INDEX", "8"), ("FLOW_SHARDS", "8")], "with `FLOW_SHARDS`, indices are from 0 to 7"),
            (vec![("JOB_COMPLETION_INDEX", "one")], "`JOB_COMPLETION_INDEX` is `one`, and not a number from 0"),
            (
                vec![
                    ("SLURM_ARRAY_TASK_ID", "5"),
                    ("SLURM_ARRAY_TASK_COUNT", "2"),
                    ("SLURM_ARRAY_TASK_MIN", "3"),
                    ("SLURM_ARRAY_TASK_STEP", "1"),
                ],
                "are not evenly spaced",
            ),
        ] {
            let error = auto(&variables).expect_err("refused");
            assert!(error.contains(expected), "{variables:?}: {error}");
        }
    }
}
