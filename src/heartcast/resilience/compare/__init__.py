"""Limits and breakers compared: the articles' table, and the libraries one could use instead.

``algorithms`` runs the same arrivals through each way of counting, on virtual time.
``contenders`` builds one closed call per library, ``timing`` measures them in turns, so
that a noisy machine is noisy for all, and ``report`` puts it together. The libraries and
matplotlib come with the extra ``bench``; one that is not installed is left out and named.
"""
