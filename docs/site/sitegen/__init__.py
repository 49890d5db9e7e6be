"""The site of the collection: its pages, made from what the repository stores; nothing is computed from a model.

`build` writes a tree of sources (`source_tree`) and gives it to Sphinx. Each page has a file here: `home`, `notebooks`,
`gallery`, `claims`, `which`, `api`. Nothing here imports Sphinx, so that the tests of the collection can read it.
"""
