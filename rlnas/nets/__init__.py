"""The torch blocks that spaces build from, and exact counts of what a network costs."""
