# Included by the root Makefile: refreshes the vendored files of the panel's pages (needs Node; users never do).
.PHONY: vendor
vendor:
	cd panel/vendor && npm ci --silent && node vendor.mjs && rm -rf node_modules
