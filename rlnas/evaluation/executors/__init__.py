"""Where proxies run: this process, or many."""
