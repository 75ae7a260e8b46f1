# Three commands: `make demo`, `make test`, `make bench`. Each installs what it needs (Debian packages, and says which) and builds.

PACKAGES := redis-server redis-tools postgresql postgresql-contrib socat
BENCH_PACKAGES := stunnel4 haproxy nginx-light libnginx-mod-stream pgbouncer
CARGO ?= cargo
# PROFILE=: of the demo `quick`, which builds in a third of the time, of the benchmarks `release`, which is what is shipped.
profile = $(or $(PROFILE),$(1))
folder = target/$(patsubst dev,debug,$(call profile,$(1)))

.PHONY: demo test test-cluster bench image lint packages bench-packages clients fmt

demo: packages
	@echo "Building (some minutes the first time) ..."
	@$(CARGO) build --profile $(call profile,quick) -p redis-tls-proxy -p doks-harbor -p lab --bin redis-tls-proxy --bin doks-harbor --bin demo
	@./$(call folder,quick)/demo

test: packages clients
	$(CARGO) test --workspace --no-fail-fast

# A real Kubernetes API (built with Go, once, outside of the checkout), a registry, network namespaces: ten minutes more the first time.
test-cluster: packages
	@.ci/test-cluster

bench: packages bench-packages
	$(CARGO) build --profile $(call profile,release) -p redis-tls-proxy -p lab --bin redis-tls-proxy --bin bench
	./$(call folder,release)/bench $(BENCH_FLAGS)

# Both programs, static, on nothing: target/image. PROFILE=release to ship it; IMAGE_FLAGS=--check tries it.
image:
	@.ci/image $(IMAGE_FLAGS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

fmt:
	$(CARGO) fmt --all

# Client libraries of other languages, for proxy/tests/clients.rs.
clients:
	@.ci/clients

packages:
	@.ci/packages $(PACKAGES)

bench-packages:
	@.ci/packages $(BENCH_PACKAGES)
	@.ci/envoy
	@.ci/ghostunnel
	@.ci/pgbouncer
