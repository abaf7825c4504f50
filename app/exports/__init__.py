"""Results as files to take home: each format gives members of an archive, result by result, in flat memory."""
