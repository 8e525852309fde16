# Included by the root Makefile. Users never need Node: what this makes is committed.
.PHONY: vendor
vendor: ## Refresh the vendored files of the panel's pages (needs Node)
	cd panel/vendor && npm ci --silent && node vendor.mjs && rm -rf node_modules
