# `make demo` and `make test` do everything on a fresh machine; see README.md.

export PATH := $(CURDIR)/.cache/venv/bin:$(PATH)
# The runtime clients of demo and tests stay in the checkout, too.
export HEARTH_RUNTIMES := $(CURDIR)/.cache/runtimes
export HEARTH_KERNELS := $(CURDIR)/.cache/kernels
export HEARTH_CACHE := $(CURDIR)/.cache/microvms
# What is run again with each instance a micro-VM: the main job through every client, every runtime, networks, what only they can, how
# functions fail, HTTP services, streams, and far more requests than there is room for.
MAIN_JOB := $(wildcard tests/e2e/test_main_job_*.py) tests/e2e/test_runtimes.py tests/e2e/test_snapstart.py tests/e2e/test_network.py \
	tests/e2e/test_one_instance.py tests/e2e/test_limit_of_instances.py \
	$(addprefix tests/e2e/test_function_failures.py::, test_an_exception test_a_timeout test_a_runtime_that_exits_in_mid_request \
		test_a_runtime_that_exits_between_requests test_out_of_memory test_a_bootstrap_that_cannot_be_run \
		test_an_answer_that_is_too_large test_an_answer_that_is_no_json) \
	$(addprefix tests/e2e/test_http_services.py::, test_a_server_answers_under_its_name_and_scales_from_zero \
		test_a_service_hears_who_asked_and_how test_bodies_stream_in_both_directions_at_once test_a_service_that_listens_late_is_waited_for \
		test_a_service_that_dies_in_mid_request_is_a_502_and_started_anew \
		test_a_service_that_sleeps_is_woken_by_a_request_and_answers_it) \
	$(addprefix tests/e2e/test_streaming.py::, test_the_first_piece_reaches_boto3_before_the_last_is_made \
		test_an_error_in_mid_stream_follows_what_was_streamed)

.PHONY: demo test build kernel lint doc deny bench examples clean

demo: build examples
	scripts/demo

test: build kernel
	cargo test --workspace --locked
	.cache/venv/bin/python -m pytest -q -c tests/e2e/pytest.ini tests/e2e
	tests/moto/run
	HEARTH_ISOLATION=qemu .cache/venv/bin/python -m pytest -q -c tests/e2e/pytest.ini $(MAIN_JOB)
	scripts/test-cgroup2
	scripts/test-firecracker

kernel: build
	target/release/hearth kernel list --json | grep -q '"overlay"' || target/release/hearth kernel add .cache/kernel-package/*.deb

build: .setup
	cargo build --release --locked -p hearth

.PHONY: .setup
.setup:
	scripts/setup clients

# A static program: it runs in any root, whatever libc is there.
examples: .setup
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target $$(rustc -vV | sed -n 's/host: //p') \
		--manifest-path examples/rust-hello/Cargo.toml --target-dir .cache/examples
	mkdir -p .cache/rust-hello
	cp .cache/examples/*/release/bootstrap .cache/rust-hello/bootstrap

lint: .setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc: .setup
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Advisories are left to whoever can reach their database: cargo deny check advisories.
deny: .setup
	cargo deny --locked check bans licenses sources

bench: build kernel
	scripts/setup bench
	.cache/venv/bin/python bench/run
	.cache/venv/bin/python bench/scale
	.cache/venv/bin/python bench/cold
	.cache/venv/bin/python bench/microvms
	.cache/venv/bin/python bench/events
	.cache/venv/bin/python bench/images
	.cache/venv/bin/python bench/http

clean:
	cargo clean
	rm -rf .cache
