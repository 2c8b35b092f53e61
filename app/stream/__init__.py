"""From the board to the browser: topics, cadence, fan-out."""
