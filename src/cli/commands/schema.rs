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
            let types = app.registry.datasets.iter().map(|kind| config::TypeSchema {
                name: kind.name(),
                aliases: kind.aliases(),
                fields: kind.fields(),
                load_args: kind.load_args(),
                save_args: kind.save_args(),
                file: kind.file_type().map(|file| config::FileSchema {
                    fields: file.fields(),
                    load_args: file.load_args(),
                    save_args: file.save_args(),
                }),
            });
            config::catalog_schema(&types.collect::<Vec<_>>())
        }
        SchemaOf::Parameters => {
            let mappings = app.registry.functions.iter().flat_map(|function| {
                function
                    .mappings()
                    .into_iter()
                    .map(move |(_, fields)| config::MappingSchema { name: function.name(), fields })
            });
            config::parameters_schema(&mappings.collect::<Vec<_>>())
        }
        SchemaOf::Pipeline => config::pipeline_schema(),
        SchemaOf::Event => run::event::schema(),
    }))
}
