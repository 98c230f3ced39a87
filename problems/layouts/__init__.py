"""Layouts that image-text problems are published in: each turns a row into a problem."""
