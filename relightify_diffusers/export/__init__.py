"""Files that other programs read: PNG, OBJ and glTF, and directories written whole or not at all."""
