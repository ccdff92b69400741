# Machines from the templates, and the Vagrant plugin. The Makefile at the top includes this file.

MACHINE_HERE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
MACHINE := $(MACHINE_HERE)../templates/machine
PLUGIN := $(MACHINE_HERE)install

# The values as they were typed, never expanded by make; templates/machine checks them.
$(foreach v,NAME IP BOX MEMORY CPUS NETWORK BLOCK,$(eval override $v := $$(value $v))$(eval export $v))

.PHONY: hybrid-base hybrid-docker hybrid-observer list ssh halt up destroy plugin-test plugin-build plugin-install plugin-uninstall

hybrid-base: ## a plain machine on the hybrid network: NAME=x [IP=] [BOX=] [MEMORY=] [CPUS=] [NETWORK=]
	@"$(MACHINE)" create base

hybrid-docker: ## a machine with Docker inside, its containers on the network, too: NAME=x [BLOCK=8]
	@"$(MACHINE)" create docker

hybrid-observer: ## a machine with the tools to look at the network: NAME=x
	@"$(MACHINE)" create observer

list: ## the machines, their addresses, and whether they are reachable
	@"$(MACHINE)" list

ssh halt up destroy: ## NAME=x
	@"$(MACHINE)" $@

plugin-test: ## RuboCop and RSpec of the Vagrant plugin, with Debian's packages
	cd "$(MACHINE_HERE)" && rubocop && rspec

plugin-build: ## builds the gem
	@"$(PLUGIN)" --build "$(MACHINE_HERE)pkg"

plugin-install: ## installs the plugin for the calling user, offline
	@"$(PLUGIN)"

plugin-uninstall: ## and removes it
	@"$(PLUGIN)" --remove
