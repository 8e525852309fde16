# Included by the root Makefile.
.PHONY: catalogues
catalogues: sync ## Bring the translations' catalogues up to date with the sources
	$(RUN) python -m kuberpa_panel.language.extract
