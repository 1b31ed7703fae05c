"""What every process shares to be seen from outside.

Names on the wire and in dashboards, and the set-up of logs.
"""
