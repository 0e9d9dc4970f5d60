"""The command line, `relightify`: thin, and heavy imports only once a command runs."""
