"""From relative depth to metres, as long as a reference vouches for it."""
