//! `response_actions`: what certain responses mean, before the common rules.

use serde_json::json;

use crate::{
    config::{Field, Kind, Node, Record},
    diagnostic::Diagnostics,
    function::problems::Problems,
};

/// The keys of one action.
pub static FIELDS: &[Field] = &[
    Field::optional("status_code", Kind::Integer(100, 599), "", "The status of the response; any if not given."),
    Field::optional("content", Kind::Text, "", "A text that the body contains."),
    Field::required(
        "action",
        Kind::Choice(&["ignore", "retry", "split", "fail", "stop"]),
        "`ignore`: there is no answer; `retry`; `split`: a value is at fault, and halves are sent; `fail`: the run fails; \
         `stop`: the run stops, and can be resumed.",
    ),
];

/// What a response means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// None of its values has an answer.
    Ignore,
    /// It is sent again.
    Retry,
    /// A value is at fault.
    Split,
    /// Nothing will succeed.
    Fail,
    /// Nothing will succeed for now.
    Stop,
}

/// What certain responses mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseActions(Vec<ResponseAction>);

#[derive(Debug, Clone, PartialEq)]
struct ResponseAction {
    status: Option<u16>,
    content: Option<String>,
    action: Action,
}

impl ResponseActions {
    /// Reads the list.
    pub fn read(node: Option<&Node>, problems: &mut Problems<'_>) -> Self {
        let items: Vec<&Node> = match node {
            None => Vec::new(),
            Some(node) => node.as_list().map_or_else(|| vec![node], |list| list.iter().collect()),
        };
        let mut all = Vec::new();
        for item in items {
            // Reported already, when the whole mapping was read.
            let Some(record) = Record::read(item, "", FIELDS, &mut Diagnostics::default()) else { continue };
            let action = match record.word("action") {
                Some("ignore") => Action::Ignore,
                Some("retry") => Action::Retry,
                Some("split") => Action::Split,
                Some("fail") => Action::Fail,
                Some("stop") => Action::Stop,
                _ => continue,
            };
            let status = record.integer("status_code").and_then(|status| u16::try_from(status).ok());
            let content = record.text("content").map(str::to_owned).filter(|text| !text.is_empty());
            if status.is_none() && content.is_none() {
                problems.wrong(
                    "an action applies to every response",
                    item.span,
                    "add `status_code`, `content` or both",
                );
            }
            all.push(ResponseAction { status, content, action });
        }
        Self(all)
    }

    /// The action for a response, if there is one.
    pub fn find(&self, status: u16, body: &[u8]) -> Option<Action> {
        let applies = |action: &&ResponseAction| {
            action.status.is_none_or(|wanted| wanted == status)
                && action.content.as_ref().is_none_or(|text| contains(body, text.as_bytes()))
        };
        self.0.iter().find(applies).map(|found| found.action)
    }

    /// What answers depend on: which responses are answers.
    pub fn identity(&self) -> String {
        let ignored = self.0.iter().filter(|action| action.action == Action::Ignore);
        json!(ignored.map(|action| json!([action.status, action.content])).collect::<Vec<_>>()).to_string()
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_action_that_applies_decides() {
        let action = |status: Option<u16>, content: Option<&str>, action| ResponseAction {
            status,
            content: content.map(str::to_owned),
            action,
        };
        let actions = ResponseActions(vec![
            action(Some(403), Some("quota"), Action::Stop),
            action(Some(404), None, Action::Ignore),
            action(None, Some("busy"), Action::Retry),
        ]);
        for (status, body, expected) in [
            (403, "the quota is used up", Some(Action::Stop)),
            (403, "no", None),
            (404, "busy", Some(Action::Ignore)),
            (200, "busy", Some(Action::Retry)),
            (200, "", None),
        ] {
            assert_eq!(actions.find(status, body.as_bytes()), expected, "{status} {body}");
        }
        assert_eq!(actions.identity(), "[[404,null]]");
    }
}
