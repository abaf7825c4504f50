"""How any training runs, is logged and taken up, in one process or several. What is trained, others know."""
