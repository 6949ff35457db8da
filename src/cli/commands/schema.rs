//! `flow schema`: JSON Schemas for editors, generated from the tables that decode the files.

use crate::{
    cli::{
        app::{App, Outcome},
        arguments::SchemaOf,
    },
    config, run,
};

pub(in crate::cli) fn schema(app: &App, what: SchemaOf) -> Outcome {
    Ok(app.document(&match what {
        SchemaOf::Catalog => {
            let types: Vec<_> =
                app.registry.datasets.iter().map(|kind| (kind.name(), kind.aliases(), kind.fields())).collect();
            config::catalog_schema(&types)
        }
        SchemaOf::Parameters => config::parameters_schema(),
        SchemaOf::Pipeline => config::pipeline_schema(),
        SchemaOf::Event => run::event::schema(),
    }))
}
