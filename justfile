# Common tasks; `just` lists them.

# Lists the tasks.
default:
    @just --list --unsorted

# Everything that the gate checks.
gate:
    .ci/run

# Type-checks everything, tests included.
check:
    cargo check --locked --all-targets

# Unit tests whose path contains FILTER.
unit FILTER='':
    cargo test --locked --lib {{FILTER}}

# Tests of the binary whose path contains FILTER.
integration FILTER='':
    cargo test --locked --test integration {{FILTER}}

# Writes expected output, schemas and generated pages again.
bless FILTER='':
    FLOW_BLESS=1 cargo test --locked --test integration {{FILTER}}

# Formats, and lints with warnings as errors.
lint:
    cargo fmt --all
    cargo clippy --locked --all-targets -- -D warnings
    scripts/lint_packaging

# Builds the documentation site into target/site.
site:
    python3 scripts/build_site.py

# Builds the wheel into target/wheels.
wheel:
    scripts/build_wheel

# Tries a wheel in an empty virtual environment.
try-wheel WHEEL:
    python3 scripts/try_wheel.py {{WHEEL}}

# Measures the size of the binary, its start and what it is made of.
measure:
    python3 scripts/measure_binary.py

# Serves the mock of an embeddings API on PORT.
mock-api PORT='8000':
    cargo run --locked --example mock_api -- --port {{PORT}}
