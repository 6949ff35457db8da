//! Where the columns of a query's result come from, as its logical plan says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    common::{
        DFSchema, JoinType,
        tree_node::{TreeNode as _, TreeNodeRecursion},
    },
    logical_expr::{Distinct, Expr, Join, LogicalPlan},
};

use crate::function::column_origin::{ColumnOrigin, OriginKind};

/// A column of an input: its port and its name.
type Source = (String, String);
/// Where one column comes from, and what becomes of each source.
type Sources = BTreeMap<Source, OriginKind>;

/// Where the columns of a plan over tables of these names come from; nothing where that is not known for all of them.
pub(super) fn origins(plan: &LogicalPlan, is_input: &dyn Fn(&str) -> bool) -> Vec<ColumnOrigin> {
    let mut reading = Reading { is_input, rows: BTreeSet::new() };
    let Some(columns) = reading.columns(plan) else { return Vec::new() };
    let fields = plan.schema().fields().iter();
    let of_columns = fields.zip(columns).flat_map(|(field, sources)| {
        // A column without a source is a constant.
        let kinds: BTreeSet<OriginKind> = sources.values().copied().collect();
        let kinds = if kinds.is_empty() { BTreeSet::from([OriginKind::Computed]) } else { kinds };
        let name = field.name().clone();
        kinds.into_iter().map(move |kind| {
            let from = sources.iter().filter(|(_, found)| **found == kind).map(|(source, _)| source.clone());
            ColumnOrigin { column: Some(name.clone()), from: from.collect(), kind }
        })
    });
    let mut all: Vec<ColumnOrigin> = of_columns.collect();
    let mut of_rows: BTreeMap<OriginKind, Vec<Source>> = BTreeMap::new();
    for (kind, source) in reading.rows {
        of_rows.entry(kind).or_default().push(source);
    }
    all.extend(of_rows.into_iter().map(|(kind, from)| ColumnOrigin { column: None, from, kind }));
    all
}

struct Reading<'a> {
    is_input: &'a dyn Fn(&str) -> bool,
    /// What decides which rows there are, and their order.
    rows: BTreeSet<(OriginKind, Source)>,
}

impl Reading<'_> {
    /// The sources of each column of a plan; `None` where they are not known.
    fn columns(&mut self, plan: &LogicalPlan) -> Option<Vec<Sources>> {
        let columns = match plan {
            LogicalPlan::TableScan(scan) => {
                let table = scan.table_name.table();
                let source = |name: &String| {
                    let known = (self.is_input)(table).then(|| ((table.to_owned(), name.clone()), OriginKind::Same));
                    known.into_iter().collect()
                };
                scan.projected_schema.fields().iter().map(|field| source(field.name())).collect()
            }
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                vec![Sources::new(); plan.schema().fields().len()]
            }
            LogicalPlan::Projection(projection) => {
                let input = self.columns(&projection.input)?;
                self.each(&projection.expr, projection.input.schema(), &input)?
            }
            LogicalPlan::SubqueryAlias(alias) => self.columns(&alias.input)?,
            LogicalPlan::Subquery(subquery) => self.columns(&subquery.subquery)?,
            LogicalPlan::Limit(limit) => self.columns(&limit.input)?,
            LogicalPlan::Repartition(repartition) => self.columns(&repartition.input)?,
            LogicalPlan::Filter(filter) => {
                let input = self.columns(&filter.input)?;
                self.decides(OriginKind::Filtered, [&filter.predicate], filter.input.schema(), &input)?;
                input
            }
            LogicalPlan::Sort(sort) => {
                let input = self.columns(&sort.input)?;
                let by = sort.expr.iter().map(|by| &by.expr);
                self.decides(OriginKind::Ordered, by, sort.input.schema(), &input)?;
                input
            }
            LogicalPlan::Distinct(Distinct::All(input)) => self.columns(input)?,
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let input = self.columns(&on.input)?;
                let schema = on.input.schema();
                self.decides(OriginKind::Grouped, &on.on_expr, schema, &input)?;
                let by = on.sort_expr.iter().flatten().map(|by| &by.expr);
                self.decides(OriginKind::Ordered, by, schema, &input)?;
                self.each(&on.select_expr, schema, &input)?
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = self.columns(&aggregate.input)?;
                let schema = aggregate.input.schema();
                self.decides(OriginKind::Grouped, &aggregate.group_expr, schema, &input)?;
                let mut columns = self.each(&aggregate.group_expr, schema, &input)?;
                for sources in self.each(&aggregate.aggr_expr, schema, &input)? {
                    columns.push(sources.into_keys().map(|source| (source, OriginKind::Aggregated)).collect());
                }
                columns
            }
            LogicalPlan::Window(window) => {
                let mut columns = self.columns(&window.input)?;
                let computed = self.each(&window.window_expr, window.input.schema(), &columns)?;
                columns.extend(computed);
                columns
            }
            LogicalPlan::Join(join) => self.join(join)?,
            LogicalPlan::Union(union) => {
                let mut columns = vec![Sources::new(); plan.schema().fields().len()];
                for input in &union.inputs {
                    let input = self.columns(input)?;
                    columns.iter_mut().zip(input).for_each(|(all, more)| add(all, &more, OriginKind::Same));
                }
                columns
            }
            LogicalPlan::Unnest(unnest) => {
                let input = self.columns(&unnest.input)?;
                let lists = unnest.list_type_columns.iter().map(|(at, _)| *at);
                let unnested: BTreeSet<usize> = lists.chain(unnest.struct_type_columns.iter().copied()).collect();
                let of = |at: &usize| {
                    let kind = if unnested.contains(at) { OriginKind::Computed } else { OriginKind::Same };
                    let mut sources = Sources::new();
                    add(&mut sources, input.get(*at)?, kind);
                    Some(sources)
                };
                unnest.dependency_indices.iter().map(of).collect::<Option<Vec<_>>>()?
            }
            // A recursive query, and what is no query.
            _ => return None,
        };
        (columns.len() == plan.schema().fields().len()).then_some(columns)
    }

    fn join(&mut self, join: &Join) -> Option<Vec<Sources>> {
        let (left, right) = (self.columns(&join.left)?, self.columns(&join.right)?);
        let (of_left, of_right): (Vec<_>, Vec<_>) = join.on.iter().map(|(left, right)| (left, right)).unzip();
        self.decides(OriginKind::Joined, of_left, join.left.schema(), &left)?;
        self.decides(OriginKind::Joined, of_right, join.right.schema(), &right)?;
        let both = join.left.schema().join(join.right.schema()).ok()?;
        let all: Vec<Sources> = left.iter().chain(&right).cloned().collect();
        self.decides(OriginKind::Joined, &join.filter, &both, &all)?;
        let mark = || std::iter::once(Sources::new());
        Some(match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => all,
            JoinType::LeftSemi | JoinType::LeftAnti => left,
            JoinType::RightSemi | JoinType::RightAnti => right,
            JoinType::LeftMark => left.into_iter().chain(mark()).collect(),
            JoinType::RightMark => right.into_iter().chain(mark()).collect(),
        })
    }

    fn each(&mut self, all: &[Expr], schema: &DFSchema, input: &[Sources]) -> Option<Vec<Sources>> {
        all.iter().map(|expression| self.of(expression, schema, input)).collect()
    }

    /// Notes the columns that decide which rows there are.
    fn decides<'e>(
        &mut self,
        kind: OriginKind,
        all: impl IntoIterator<Item = &'e Expr>,
        schema: &DFSchema,
        input: &[Sources],
    ) -> Option<()> {
        for expression in all {
            let sources = self.of(expression, schema, input)?;
            self.rows.extend(sources.into_keys().map(|source| (kind, source)));
        }
        Some(())
    }

    /// The sources of an expression over columns whose sources are `input`.
    fn of(&mut self, expression: &Expr, schema: &DFSchema, input: &[Sources]) -> Option<Sources> {
        let column = |column| Some(input.get(schema.maybe_index_of_column(column)?)?.clone());
        match expression {
            Expr::Alias(alias) => return self.of(&alias.expr, schema, input),
            Expr::Column(name) => return column(name),
            _ => {}
        }
        let (mut sources, mut known) = (Sources::new(), true);
        let walked = expression.apply(|part| {
            let found = match part {
                Expr::Column(name) => column(name),
                Expr::ScalarSubquery(query) => self.all(&query.subquery),
                Expr::InSubquery(query) => self.all(&query.subquery.subquery),
                Expr::Exists(query) => self.all(&query.subquery.subquery),
                Expr::SetComparison(query) => self.all(&query.subquery.subquery),
                Expr::OuterReferenceColumn(..) => None,
                _ => Some(Sources::new()),
            };
            match found {
                Some(found) => add(&mut sources, &found, OriginKind::Computed),
                None => known = false,
            }
            Ok(if known { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        (walked.is_ok() && known).then_some(sources)
    }

    /// The sources of all columns of a query inside an expression.
    fn all(&mut self, plan: &Arc<LogicalPlan>) -> Option<Sources> {
        let mut all = Sources::new();
        self.columns(plan)?.iter().for_each(|sources| add(&mut all, sources, OriginKind::Computed));
        Some(all)
    }
}

/// Adds sources from which values are made as `kind` says, or in a way that does more.
fn add(all: &mut Sources, more: &Sources, kind: OriginKind) {
    for (source, found) in more {
        let known = all.entry(source.clone()).or_insert(kind);
        *known = (*known).max(*found).max(kind);
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::{datasource::empty::EmptyTable, prelude::SessionContext};

    use super::*;

    async fn found(query: &str) -> Vec<String> {
        let session = SessionContext::new();
        for (table, columns) in [("t", ["id", "name", "n"]), ("u", ["id", "size", "tags"])] {
            let kind = |name: &str| match name {
                "name" => DataType::Utf8,
                "tags" => DataType::new_list(DataType::Utf8, true),
                _ => DataType::Int64,
            };
            let fields: Vec<Field> = columns.iter().map(|name| Field::new(*name, kind(name), true)).collect();
            session.register_table(table, Arc::new(EmptyTable::new(Arc::new(Schema::new(fields))))).expect("new");
        }
        let plan = session.state().create_logical_plan(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let shown = |origin: &ColumnOrigin| {
            let from: Vec<String> = origin.from.iter().map(|(port, column)| format!("{port}.{column}")).collect();
            format!("{} {:?} {}", origin.column.as_deref().unwrap_or("*"), origin.kind, from.join(" "))
        };
        origins(&plan, &|name| matches!(name, "t" | "u")).iter().map(|origin| shown(origin).trim().to_owned()).collect()
    }

    #[tokio::test]
    async fn columns_are_followed_to_the_inputs() {
        for (query, expected) in [
            ("select id, name as label from t", vec!["id Same t.id", "label Same t.name"]),
            ("select id + n as sum, 1 as one from t", vec!["sum Computed t.id t.n", "one Computed"]),
            ("select cast(id as double) as x from t", vec!["x Computed t.id"]),
            ("select * from (select n + 1 as m, n from t) as s", vec!["m Computed t.n", "n Same t.n"]),
            ("with c as (select id as a from t) select a from c", vec!["a Same t.id"]),
            ("select id from t where name like 'a%'", vec!["id Same t.id", "* Filtered t.name"]),
            ("select id from t order by n limit 3", vec!["id Same t.id", "* Ordered t.n"]),
            (
                "select t.id, size from t join u on t.id = u.id and u.size > t.n",
                vec!["id Same t.id", "size Same u.size", "* Joined t.id t.n u.id u.size"],
            ),
            (
                "select id, name from t left join u using (id)",
                vec!["id Same t.id", "name Same t.name", "* Joined t.id u.id"],
            ),
            (
                "select name, sum(n) as total, count(*) as c from t group by name having sum(id) > 3",
                vec!["name Same t.name", "total Aggregated t.n", "c Computed", "* Filtered t.id", "* Grouped t.name"],
            ),
            ("select max(n) + 1 as m from t", vec!["m Aggregated t.n"]),
            ("select id from t union all select size from u", vec!["id Same t.id u.size"]),
            ("select id from t union all select size + 1 from u", vec!["id Same t.id", "id Computed u.size"]),
            ("select distinct name from t", vec!["name Same t.name"]),
            (
                "select id, row_number() over (partition by name order by n) as r from t",
                vec!["id Same t.id", "r Computed t.n t.name"],
            ),
            ("select unnest(tags) as tag, id from u", vec!["tag Computed u.tags", "id Same u.id"]),
            ("select id from t where id in (select id from u)", vec!["id Same t.id", "* Filtered t.id u.id"]),
            ("select (select max(size) from u) as m from t", vec!["m Aggregated u.size"]),
            ("select a.id from t a, t b where a.id = b.n", vec!["id Same t.id", "* Filtered t.id t.n"]),
            ("select id from t intersect select size from u", vec!["id Same t.id", "* Joined t.id u.size"]),
            ("select value from generate_series(1, 3)", vec!["value Computed"]),
            ("values (1, 'a')", vec!["column1 Computed", "column2 Computed"]),
        ] {
            assert_eq!(found(query).await, expected, "{query}");
        }
    }

    #[tokio::test]
    async fn what_is_not_known_is_left_out_whole() {
        for query in [
            "select id from t where exists (select 1 from u where u.id = t.id)",
            "with recursive r as (select id from t union all select id + 1 from r where id < 3) select id from r",
        ] {
            assert_eq!(found(query).await, [""; 0], "{query}");
        }
    }
}
