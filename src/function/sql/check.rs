//! What is wrong with a query before it runs: its syntax, its tables, and its columns as far as they are known.

use std::{collections::HashSet, ops::ControlFlow, sync::Arc};

use datafusion::{
    common::{DataFusionError, SchemaError, TableReference},
    datasource::empty::EmptyTable,
    logical_expr::LogicalPlan,
    prelude::{SessionConfig, SessionContext},
    sql::{
        parser::{DFParser, DFParserBuilder, Statement},
        resolve::resolve_table_references,
        sqlparser::{
            ast::{self, ObjectName, TableFactor, Visit as _, Visitor},
            dialect::GenericDialect,
            tokenizer::Location,
        },
    },
};

use crate::{
    diagnostic::{Diagnostic, Span, closest, did_you_mean},
    function::column_origin::Columns,
};

/// A problem of a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueryProblem {
    /// What is wrong.
    message: String,
    /// Where: line and column, both from 1.
    place: Option<(u64, u64)>,
    help: Option<String>,
}

impl QueryProblem {
    /// As a diagnostic of a node whose query `text` is at `span`.
    pub(super) fn diagnostic(&self, node: &str, text: &str, span: Span) -> Diagnostic {
        let (place, span) = match self.place {
            Some((line, column)) => {
                let shown = text.lines().nth(usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1));
                let shown = shown.map(|shown| format!(" (`{}`)", shortened(shown.trim()))).unwrap_or_default();
                (format!("line {line}, column {column} of the query{shown}: "), narrowed(text, span, (line, column)))
            }
            None => (String::new(), span),
        };
        let message = format!("node `{node}`: {place}{}", self.message);
        Diagnostic::error("sql::bad-query", message).at(span, "").help_opt(self.help.clone())
    }
}

/// A line of a query as it is shown.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 80;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The place in the file, where a query of one line stands there as it is, plain or in quotes; else all of the query.
fn narrowed(text: &str, span: Span, (line, column): (u64, u64)) -> Span {
    let before = (span.end - span.start).checked_sub(text.len());
    let (Some(around @ (0 | 2)), 1, false) = (before, line, text.contains(['\n', '\'', '"', '\\'])) else {
        return span;
    };
    let column = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    let offset = text.char_indices().nth(column).map_or(text.len(), |(at, _)| at);
    let length =
        text[offset..].find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len() - offset).max(1);
    let start = span.start + around / 2 + offset;
    Span { start, end: (start + length).min(span.end), ..span }
}

/// Checks that a query is one statement of SQL that reads only these tables.
pub(super) fn check_syntax(query: &str, tables: &[String]) -> Result<(), QueryProblem> {
    let plain = |message: &str| QueryProblem { message: message.to_owned(), place: None, help: None };
    let mut statements = parsed(query)?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(plain("its query has to be one statement"));
    };
    if !is_query(&statement) {
        return Err(plain(
            "its statement is no query: a node reads its inputs and gives rows, and `flow` writes them to its output",
        ));
    }
    let read = resolve_table_references(&statement, true).map(|(tables, _)| tables).unwrap_or_default();
    let Statement::Statement(ast) = &statement else { return Ok(()) };
    let mut relations = Relations::default();
    let _: ControlFlow<()> = ast.visit(&mut relations);
    let unknown = read.iter().find(|table| {
        let bare = matches!(table, TableReference::Bare { .. });
        bare && !tables.iter().any(|known| known == table.table()) && !relations.functions.contains(table.table())
    });
    let Some(unknown) = unknown.map(TableReference::table) else { return Ok(()) };
    let place = relations.names.iter().find(|(name, _)| name.eq_ignore_ascii_case(unknown)).map(|(_, place)| *place);
    let help = match tables.iter().find(|known| known.eq_ignore_ascii_case(unknown)) {
        Some(quoted) => format!("write `\"{quoted}\"`: names without quotes are read in lower case"),
        None => did_you_mean(unknown, tables.iter().map(String::as_str))
            .unwrap_or_else(|| format!("the tables of the node are {}", list(tables.iter().map(String::as_str)))),
    };
    let message = format!("there is no table `{unknown}` among the node's inputs");
    Err(QueryProblem { message, place: place.and_then(of_location), help: Some(help) })
}

/// True for what gives rows and changes nothing.
fn is_query(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(ast) => matches!(
            **ast,
            ast::Statement::Query(_) | ast::Statement::Explain { .. } | ast::Statement::ExplainTable { .. }
        ),
        Statement::Explain(_) => true,
        _ => false,
    }
}

fn parsed(query: &str) -> Result<std::collections::VecDeque<Statement>, QueryProblem> {
    let dialect = GenericDialect {};
    let parser = DFParserBuilder::new(query).with_dialect(&dialect).build();
    parser.and_then(|mut parser: DFParser<'_>| parser.parse_statements()).map_err(|error| {
        let error = match error.find_root() {
            DataFusionError::SQL(error, _) => error.to_string(),
            error => crate::data::explain(error),
        };
        let (message, place) = match error.rsplit_once(" at Line: ") {
            Some((message, place)) => (message, place_of(place)),
            None => (error.as_str(), None),
        };
        let message = message.trim_start_matches("sql parser error: ");
        let word = place.and_then(|place| word_at(query, place));
        let help = word.and_then(|word| closest(&word.to_lowercase(), WORDS.iter().copied()));
        QueryProblem {
            message: format!("its query is not SQL: {message}"),
            place,
            help: help.map(|word| format!("did you mean `{}`?", word.to_uppercase())),
        }
    })
}

/// Words that are often misspelled where the parser notices.
const WORDS: &[&str] =
    &["select", "from", "where", "group", "order", "having", "limit", "union", "join", "with", "insert", "values"];

/// `1, Column: 8`, as the parser writes it.
fn place_of(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.split_once(", Column: ")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(line)?, digits(column)?))
}

/// The word that begins at a place.
fn word_at(query: &str, (line, column): (u64, u64)) -> Option<String> {
    let line = query.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let rest = line.chars().skip(usize::try_from(column).ok()?.checked_sub(1)?);
    let word: String = rest.take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (word.len() > 2).then_some(word)
}

fn of_location(at: Location) -> Option<(u64, u64)> {
    (at.line > 0).then_some((at.line, at.column))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 40;
    let mut names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// What a statement names as tables, and as functions that give one.
#[derive(Default)]
struct Relations {
    names: Vec<(String, Location)>,
    functions: HashSet<String>,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if let Some(name) = name.0.last().and_then(|part| part.as_ident()) {
            self.names.push((name.value.clone(), name.span.start));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } = table
            && let Some(name) = name.0.last().and_then(|part| part.as_ident())
        {
            self.functions.insert(name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

/// The columns of the result, where those of all tables are known.
pub(super) async fn bind(
    query: &str,
    tables: &indexmap::IndexMap<String, Option<Columns>>,
    session: &SessionContext,
) -> Result<Option<Columns>, QueryProblem> {
    let planned = plan(query, tables, session).await?;
    Ok(planned.map(|(plan, exact)| Columns { schema: Arc::new(plan.schema().as_arrow().clone()), exact }))
}

/// The plan of a query, where the columns of all tables are known, and whether their types are.
pub(super) async fn plan(
    query: &str,
    tables: &indexmap::IndexMap<String, Option<Columns>>,
    session: &SessionContext,
) -> Result<Option<(LogicalPlan, bool)>, QueryProblem> {
    let mut config: SessionConfig = session.copied_config();
    config.options_mut().sql_parser.collect_spans = true;
    let session = SessionContext::new_with_config_rt(config, session.runtime_env());
    let mut exact = true;
    for (name, columns) in tables {
        let Some(columns) = columns else { return Ok(None) };
        exact &= columns.exact;
        let table = Arc::new(EmptyTable::new(columns.schema.clone()));
        if session.register_table(TableReference::bare(name.as_str()), table).is_err() {
            return Ok(None);
        }
    }
    match session.state().create_logical_plan(query).await {
        Ok(plan) => Ok(Some((plan, exact))),
        Err(error) => problem(&error, exact).map_or(Ok(None), Err),
    }
}

/// What is wrong; `None` where that depends on types that are not known for sure.
fn problem(error: &DataFusionError, exact: bool) -> Option<QueryProblem> {
    let place = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = place.filter(|span| span.start.line > 0).map(|span| (span.start.line, span.start.column));
    if let DataFusionError::SchemaError(found, _) = error.find_root() {
        let SchemaError::FieldNotFound { field, valid_fields } = &**found else {
            return Some(QueryProblem { message: found.to_string(), place, help: None });
        };
        let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
        let close = names.iter().find(|name| name.eq_ignore_ascii_case(&field.name) && **name != field.name);
        let help = match close {
            Some(quoted) => Some(format!("write `\"{quoted}\"`: names without quotes are read in lower case")),
            None => did_you_mean(&field.name, names.iter().copied()),
        };
        let columns = match names.as_slice() {
            [] => "there are no columns here".to_owned(),
            names => format!("the columns are {}", list(names.iter().copied())),
        };
        let message = format!("there is no column `{}`: {columns}", field.flat_name());
        return Some(QueryProblem { message, place, help });
    }
    exact.then(|| QueryProblem {
        message: format!("its query cannot be planned: {}", crate::data::explain(error)),
        place,
        help: None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn syntax_and_tables_are_checked_with_their_place_in_the_query() {
        let tables = ["t".to_owned(), "people".to_owned(), "Upper".to_owned()];
        for (query, place, message, help) in [
            ("selec * from t", Some((1, 1)), "is not SQL", "did you mean `SELECT`?"),
            ("select *\nfrom peple", Some((2, 6)), "there is no table `peple`", "did you mean `people`?"),
            ("select * from t join x y on true", Some((1, 22)), "no table `x`", "did you mean `t`?"),
            (
                "select * from t join nothing on true",
                Some((1, 22)),
                "no table `nothing`",
                "the tables of the node are `t`",
            ),
            ("select * from Upper", Some((1, 15)), "no table `upper`", "write `\"Upper\"`"),
            ("select 1; select 2", None, "one statement", ""),
            ("", None, "one statement", ""),
            ("copy t to 'x.csv'", None, "is no query", ""),
            ("create external table x stored as csv location 'x.csv'", None, "is no query", ""),
            ("create table x as select * from t", None, "is no query", ""),
            ("insert into t select * from t", None, "is no query", ""),
            ("drop table t", None, "is no query", ""),
            ("set datafusion.execution.batch_size = 1", None, "is no query", ""),
            ("select (select max(a) from tt) from t", Some((1, 28)), "no table `tt`", ""),
        ] {
            let problem = check_syntax(query, &tables).expect_err(query);
            assert_eq!(problem.place, place, "{query}: {problem:?}");
            assert!(problem.message.contains(message), "{query}: {problem:?}");
            assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{query}: {problem:?}");
        }
        for query in [
            "with x as (select * from t) select * from x join \"Upper\" using (id)",
            "select * from generate_series(1, 3)",
            "select unnest(a) from t, unnest([1, 2]) as u(n)",
            "with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select * from n",
            "select * from (values (1), (2)) as v(x)",
            "select 1",
        ] {
            assert_eq!(check_syntax(query, &tables), Ok(()), "{query}");
        }
    }

    #[tokio::test]
    async fn columns_are_checked_where_they_are_known() {
        let session = SessionContext::new();
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("Name", DataType::Utf8, true)];
        let known = Columns { schema: Arc::new(Schema::new(fields)), exact: true };
        let tables = |exact| {
            let known = Some(Columns { exact, ..known.clone() });
            indexmap::IndexMap::from([("t".to_owned(), known)])
        };
        for (query, place, message, help) in [
            ("select idd from t", Some((1, 8)), "no column `idd`: the columns are `id`, `Name`", "did you mean `id`?"),
            ("select t.id,\n  Name from t", Some((2, 3)), "no column `name`", "write `\"Name\"`"),
            ("select id from t where nme = 'x'", Some((1, 24)), "no column `nme`", ""),
        ] {
            for exact in [true, false] {
                let problem = bind(query, &tables(exact), &session).await.expect_err(query);
                assert_eq!(problem.place, place, "{query}: {problem:?}");
                assert!(problem.message.contains(message), "{query}: {problem:?}");
                assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{query}: {problem:?}");
            }
        }
        let wrong_type = "select id + interval '1 day' from t where nosuch(id)";
        assert!(bind(wrong_type, &tables(true), &session).await.is_err());
        assert_eq!(bind(wrong_type, &tables(false), &session).await.expect("types are not known"), None);
        let columns = bind("select id + 1 as next, \"Name\" from t", &tables(true), &session).await;
        let columns = columns.expect("planned").expect("known");
        assert_eq!(
            columns.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
            ["next", "Name"]
        );
        let unknown = indexmap::IndexMap::from([("t".to_owned(), None)]);
        assert_eq!(bind("select anything from t", &unknown, &session).await.expect("not known"), None);
    }
}
