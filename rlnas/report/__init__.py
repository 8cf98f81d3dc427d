"""What is found, on one page: self-contained HTML that needs neither a server nor the network."""
