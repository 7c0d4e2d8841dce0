"""The pictures to edit: which files of a folder they are; see `find`."""
