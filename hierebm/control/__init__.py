"""hierebm.control"""
