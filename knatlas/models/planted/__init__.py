"""Transformers with knowledge written into chosen neurons: what a method finds is compared with what is there."""
