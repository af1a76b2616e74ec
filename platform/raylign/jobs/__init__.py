"""Ray jobs: what travels to a cluster, and the client that sends, follows and stops it."""
