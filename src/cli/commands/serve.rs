//! `flow serve`: the page of `flow report`, live.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use crate::{
    cli::{
        Exit,
        app::{App, Limits, Outcome, environment, print_raw},
        signals,
    },
    serve::{Served, Server, is_token},
};

/// The variable that holds the token; a new one is made where it is not set and others than this machine can connect.
const TOKEN: &str = "FLOW_SERVE_TOKEN";

pub(in crate::cli) fn serve(app: &App, bind: IpAddr, port: u16, location: Option<&str>) -> Outcome {
    let workspace = app.workspace()?;
    let token = environment(TOKEN);
    if token.as_deref().is_some_and(|token| !is_token(token)) {
        let message = format!(
            "`{TOKEN}` is not a token\nhelp: use letters, digits and signs, without spaces, quotes, commas, semicolons and backslashes"
        );
        return Err(app.fail(Exit::Wrong, message));
    }
    let mut read = app.ledgers(&workspace.project, location)?;
    let limits = Limits::default();
    let (stores, context) = app.context(&workspace.project, limits)?;
    let (ledgers, mirror) = (read.ledgers.clone(), read.mirror.take());
    let served = Served { ledgers, mirror, workspace, stores, session: context.session, secrets: app.secrets.clone() };
    app.block_on(limits.jobs, async {
        let address = SocketAddr::new(bind, port);
        let server = Server::bind(address, token).await.map_err(|error| {
            let help = if port == 0 { "" } else { "\nhelp: use another `--port`; 0 takes a free one" };
            app.fail(Exit::Environment, format!("cannot listen at {address}: {error}{help}"))
        })?;
        let url = server.url();
        let (shutdown, _, _listener) = signals::listen(|_| {});
        if app.json() {
            print_raw(&format!("{}\n", json!({"url": url})));
        } else {
            print_raw(&format!("{url}\n"));
            app.say("Ctrl-C ends the server; runs that go on are not its own.");
        }
        server.run(served, || app.workspace().ok(), shutdown.drain).await;
        Ok(Exit::Done)
    })?
}
