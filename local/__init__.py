"""Snakemake on one machine."""
