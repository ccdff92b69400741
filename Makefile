# What a person calls. The work is in scripts under tests/, and in cargo.

# A Rust that was just installed may not be on the PATH yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help
help: ## list these
	@sed -n 's/^\([a-z][a-z -]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-24s%s\n", $$1, $$2 }'

.PHONY: build
build: ## build the release: target/release/hybrid-hook and hybrid-libvirt
	@tests/setup build
	cargo build --release --locked

.PHONY: demo
demo: ## a VM and a container on one network, in a lab that leaves nothing behind
	@tests/demo

.PHONY: test
test: ## every test, in labs of three Debian releases: some 40 minutes
	@tests/all

.PHONY: test-everywhere
test-everywhere: build ## every lab suite in each of the three releases: some 40 minutes
	@tests/setup lab
	@tests/as-root tests/lab/run

.PHONY: vagrant-check
vagrant-check: build ## Vagrant for real, in labs of bookworm and trixie: half an hour each
	@tests/setup lab
	@tests/as-root tests/lab/vagrant-check.sh --release bookworm
	@tests/as-root tests/lab/vagrant-check.sh --release trixie

.PHONY: check
check: ## format, lints, documentation, scripts, licences
	@tests/check

.PHONY: lab
lab: build ## a lab with this build in it, and a shell in the lab
	@tests/setup lab
	@tests/as-root tests/lab/lab up
	@tests/as-root tests/lab/lab shell

.PHONY: bench
bench: build ## figures, each beside a peer's in the same run
	@tests/setup lab
	cargo build --release --locked --example measure
	@tests/as-root benches/bench

.PHONY: create-hybrid-network
create-hybrid-network: build ## the network hybrid on this machine itself (root; installs nothing)
	@tests/as-root target/release/hybrid-hook network create

.PHONY: install
install: build ## this build, its hooks and units on this machine itself (root); where Vagrant is, its plugin, too
	@tests/as-root sh -c 'install -D -m 755 target/release/hybrid-hook /usr/bin/hybrid-hook && \
		install -D -m 755 target/release/hybrid-libvirt /usr/libexec/hybrid-hook/hybrid-libvirt'
	@tests/as-root /usr/bin/hybrid-hook install
	@! command -v vagrant >/dev/null || vagrant-plugin/install || \
		echo "warning: the Vagrant plugin is not installed; once that is mended: make plugin-install" >&2

.PHONY: uninstall
uninstall: ## remove them; files under /etc/hybrid-hook and the leases stay (root)
	@tests/as-root /usr/bin/hybrid-hook uninstall
	@tests/as-root rm -rf /usr/bin/hybrid-hook /usr/libexec/hybrid-hook
	@! command -v vagrant >/dev/null || vagrant-plugin/install --remove || \
		echo "warning: the Vagrant plugin is still there: make plugin-uninstall" >&2

.PHONY: clean
clean: ## remove what was built here; the labs' cache stays: tests/lab/lab clean
	cargo clean

-include vagrant-plugin/vagrant.mk
